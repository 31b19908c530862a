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

__all__ = ["Handing", "handing_of", "takes_states"]

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

    A state starts from rest, so that an argument with another default than None is none.
    """
    if isinstance(network, torch.jit.ScriptModule):
        forward: Any = network.forward
        arguments = [(a.name, a.default_value) for a in forward.schema.arguments[2:]]
        return tuple(name for name, default in arguments if default is None), False
    try:
        found = list(inspect.signature(network.forward).parameters.values())
    except (TypeError, ValueError):  # a forward in C
        return (), False
    if found and found[0].kind is found[0].VAR_POSITIONAL:  # a wrapper's (*args, **kwargs)
        return (), False
    rest = [p for p in found[1:] if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.POSITIONAL_ONLY)]
    names = tuple(p.name for p in rest if p.default is None or p.default is p.empty)
    return names, any(p.kind is p.VAR_POSITIONAL for p in found)


def handing_of(network: nn.Module, run: Callable[[Handing | None], tuple[list[Tensor], Any] | None]) -> Handing | None:
    """How a network wants its states, or None where it takes none.

    A state that changes nothing in a few steps, of neurons that stay silent, is handed over too.

    run: a few steps of the same input from rest under one way to hand over -> the output of each step and what the
    first call returned; None where the network raises. Raises SpikeproofError where several ways give several answers.
    """
    names, any_number = takes_states(network)
    alone = run(None)
    if alone is None or not (names or any_number):
        return None
    outputs, returned = alone
    if not isinstance(returned, tuple | list) or len(returned) < 2:
        return None
    tried = [(way, run(way)) for way in list(_ways(names, any_number, tuple(returned[1:])))[:_MOST]]
    found = [(way, ran[0]) for way, ran in tried if ran is not None]
    remembers = not torch.equal(outputs[0], outputs[1])  # without being handed anything
    answers = [*([outputs] if remembers else []), *(steps for _, steps in found)]
    if any(not _same(answers[0], other) for other in answers[1:]):
        raise SpikeproofError(
            "one way to hand the states of a network of one step a call to its next",
            f"{len(returned) - 1} things returned beside the output, and arguments {', '.join(names) or '*states'}: "
            "several ways, with other logits",
            mend="forward(x, state=None) -> (out, state) all states in one tuple; or a module with the loop inside",
        )
    return found[0][0] if found else None


def _ways(names: tuple[str, ...], any_number: bool, states: tuple[Any, ...]) -> Iterator[Handing]:
    if any_number:
        yield Handing(())
    elif len(names) == len(states):
        yield Handing(names, tuple(range(len(states))))
    elif len(states) == 1 and isinstance(states[0], tuple | list) and len(states[0]) == len(names):
        yield Handing(names, tuple(range(len(names))), spread=True)
    else:
        if len(names) == 1:
            yield Handing(names, whole=True)
        for count in range(min(len(names), len(states)), 0, -1):
            for takes in combinations(names, count):
                for picks in combinations(range(len(states)), count):
                    yield Handing(takes, picks)
            return


def _same(some: list[Tensor], other: list[Tensor]) -> bool:
    return len(some) == len(other) and all(map(torch.equal, some, other))
