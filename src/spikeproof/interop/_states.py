"""How the states that a network of one step a call returns are handed to its next call: found by asking it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from spikeproof.errors import SpikeproofError

__all__ = ["Handing", "Ran", "handing_of", "takes_states"]

_MOST = 20
"""Ways to hand over that are tried at most."""


@dataclass(frozen=True)
class Handing:
    """names: of the arguments that get states, () for all behind the input; picks: which of the returned states they
    get, from 0 on; whole: one argument gets them all as a tuple; spread: one tuple is returned, and taken apart."""

    names: tuple[str, ...]
    picks: tuple[int, ...] = ()
    whole: bool = False
    spread: bool = False

    def taken(self, returned: Any) -> tuple[Any, ...]:
        """What of the things that a call returned is handed over."""
        args, named = self(returned)
        return (*args, *named.values())

    def __call__(self, returned: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What a call returned -> positional and named arguments of the next, behind the input."""
        states = tuple(returned[1:])
        if self.spread:
            states = tuple(states[0])
        if not self.names:
            return states, {}
        given = [states] if self.whole else [states[pick] for pick in self.picks]
        return (), dict(zip(self.names, given, strict=True))


def takes_states(network: nn.Module) -> tuple[tuple[str, ...], bool]:
    """Names of the arguments behind the input that may be states, and whether any number of them is taken.

    A state starts from rest, so that an argument is none whose default is anything but None, nothing or zero.
    """
    if isinstance(network, torch.jit.ScriptModule):
        forward: Any = network.forward
        arguments = [(a.name, a.default_value) for a in forward.schema.arguments[2:]]
        return tuple(name for name, default in arguments if _at_rest(default)), False
    try:
        found = list(inspect.signature(network.forward).parameters.values())
    except (TypeError, ValueError):  # a forward in C
        return (), False
    if found and found[0].kind is found[0].VAR_POSITIONAL:  # a wrapper's (*args, **kwargs)
        return (), False
    rest = [p for p in found[1:] if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.POSITIONAL_ONLY)]
    names = tuple(p.name for p in rest if p.default is p.empty or _at_rest(p.default))
    return names, any(p.kind is p.VAR_POSITIONAL for p in found)


def _at_rest(default: Any) -> bool:
    """Whether a default may stand for a state at rest: None, zero, or nothing or several of these in a container."""
    if isinstance(default, Tensor):
        return not bool(default.any())
    if isinstance(default, tuple | list):
        return all(map(_at_rest, default))
    number = isinstance(default, int | float) and not isinstance(default, bool)
    return default is None or default == {} or (number and default == 0)


Ran = tuple[list[Tensor], list[Any]]
"""The output of each of a few calls, and all that each returned."""


def handing_of(
    network: nn.Module, run: Callable[[Handing | None], Ran | None], *, told: bool, loops: Callable[[], bool]
) -> Handing | None:
    """How a network wants its states, or None where it takes none.

    What goes on from call to call is a state, also where it changes no output in a few steps, as of neurons that stay
    silent. What is the same whatever is handed over is none: an attention, say, beside an argument for a mask.

    run: a few steps of the same input from rest under one way to hand over; None where the network raises. told:
    whether its owner says that it takes one step a call; loops: whether one call has a loop over time inside. Raises
    SpikeproofError where several ways give several answers, and where what is handed over changes the answer and is no
    state that goes on.
    """
    names, any_number = takes_states(network)
    alone = run(None)
    if alone is None or not (names or any_number):
        return None
    outputs, returned = alone[0], alone[1][0]
    if not isinstance(returned, tuple | list) or len(returned) < 2:
        return None
    tried = [(way, run(way)) for way in list(_ways(names, any_number, tuple(returned[1:])))[:_MOST]]
    ran = [(way, one) for way, one in tried if one is not None and _alike(one[0], outputs)]
    states = [(way, one[0]) for way, one in ran if _goes_on(way, one[1], alone[1])]
    remembers = not torch.equal(outputs[0], outputs[1])  # without being handed anything
    answers = [*([outputs] if remembers else []), *(steps for _, steps in states)]
    if any(not _same(answers[0], other) for other in answers[1:]):
        raise SpikeproofError(
            "one way to hand the states of a network of one step a call to its next",
            f"{len(returned) - 1} things returned beside the output, and arguments {', '.join(names) or '*states'}: "
            "several ways, with other logits",
            mend="forward(x, state=None) -> (out, state) all states in one tuple; or a module with the loop inside",
        )
    if states:
        return states[0][0]
    doubtful = next((way for way, one in ran if not _same(one[0], outputs)), None)
    if doubtful is not None and (told or not loops()):
        raise _no_state(doubtful)
    return ran[0][0] if told and ran and doubtful is None else None


def _no_state(way: Handing) -> SpikeproofError:
    return SpikeproofError(
        "arguments behind the input that are states, or that are never needed",
        f"{', '.join(way.names) or '*states'}: what is returned beside the output fits in there and changes the answer,"
        " but does not go on from call to call as a state does",
        mend="a module with forward(x) alone, which calls this one as you do",
    )


def _ways(names: tuple[str, ...], any_number: bool, states: tuple[Any, ...]) -> Iterator[Handing]:
    some = [place for place, state in enumerate(states) if state is not None]
    if not some:
        return
    if any_number:
        yield Handing(())
    elif len(names) == len(some):
        yield Handing(names, tuple(some))
    elif len(states) == 1 and isinstance(states[0], tuple | list) and len(states[0]) == len(names):
        yield Handing(names, tuple(range(len(names))), spread=True)
    else:
        if len(names) == 1:
            yield Handing(names, whole=True)
        for count in range(min(len(names), len(some)), 0, -1):
            for takes in combinations(names, count):
                for picks in combinations(some, count):
                    yield Handing(takes, picks)


def _goes_on(way: Handing, returned: list[Any], alone: list[Any]) -> bool:
    """Whether what is handed over is of one shape at every call, and depends on what was handed over before."""
    taken, before = ([list(_leaves(way.taken(one))) for one in calls] for calls in (returned, alone))
    if any(list(map(_shape, leaves)) != list(map(_shape, taken[0])) for leaves in taken[1:]):
        return False
    return any(
        len(some) != len(other) or not all(map(_equal, some, other)) for some, other in zip(taken, before, strict=True)
    )


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _leaves(one)
    else:
        yield value


def _shape(leaf: Any) -> object:
    return tuple(leaf.shape) if isinstance(leaf, Tensor) else type(leaf)


def _equal(new: Any, old: Any) -> bool:
    """Objects that nothing is known of are two."""
    if isinstance(new, Tensor) and isinstance(old, Tensor):
        return torch.equal(new, old)
    return new is old or (isinstance(new, int | float | str) and type(new) is type(old) and new == old)


def _alike(some: list[Tensor], other: list[Tensor]) -> bool:
    """Whether outputs have the shapes of others: what is handed over and makes a loss of them is no state."""
    return [one.shape for one in some] == [one.shape for one in other]


def _same(some: list[Tensor], other: list[Tensor]) -> bool:
    return len(some) == len(other) and all(map(torch.equal, some, other))
