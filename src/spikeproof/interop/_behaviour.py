"""What calls show of a foreign network: what it prints, remembers, mixes or keeps, and what it returns.

`wrap` stops at the first refusal, which names the module it is about; `check` asks every question of `BEHAVIOUR`.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from spikeproof.errors import SpikeproofError
from spikeproof.interop._borrowing import answering, called, forked, hooked, kept, seeded, tensors_in
from spikeproof.interop._foreign import Foreign
from spikeproof.interop.frameworks import names
from spikeproof.tensors import exact, image_keys
from spikeproof.types import Rule
from spikeproof.victims.outputs import refuse_probabilities
from spikeproof.victims.victim import Victim

__all__ = ["BEHAVIOUR", "Trial", "examine"]


@dataclass(frozen=True)
class Trial:
    """A borrowed victim of a foreign network, the images it is tried on, and the rule for gradients."""

    victim: Victim
    images: Tensor
    rule: Rule

    @property
    def body(self) -> Foreign:
        body = self.victim.body
        assert isinstance(body, Foreign)
        return body

    @property
    def network(self) -> nn.Module:
        return self.body.network

    @cached_property
    def keys(self) -> Tensor:
        return image_keys(0, torch.arange(len(self.images))).to(self.images.device)

    @cached_property
    def code(self) -> Tensor:
        """What the network is given, (T,B,C,H,W)."""
        return self.victim.encode(self.images, self.keys).detach().clone()

    @torch.no_grad()
    def logits(self, z: Tensor) -> Tensor:
        """From rest; what the network prints is swallowed, and what it raises is a refusal."""
        able = answering(self.network, f"a model that can be called on {z.shape[1]} images", _SIZES)
        with able, contextlib.redirect_stdout(io.StringIO()):
            return self.victim.classify(z.clone(), exact)

    def drawn(self, z: Tensor) -> Tensor:
        """The same; a network that draws noise from torch draws the same each time."""
        with seeded(z.device):
            return self.logits(z)


_SIZES = (
    "take any number of images, one too: name the axis in squeeze(-1), flatten(1), and make states of the input's size"
)


def examine(trial: Trial) -> None:
    """Calls a borrowed victim of a foreign network a few times, and refuses what cannot be evaluated."""
    for question in (_refuse_unfinite, *BEHAVIOUR.values()):
        question(trial)


def _refuse_prints(trial: Trial) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), torch.no_grad():
        trial.victim.classify(trial.code.clone(), exact)
    if text := printed.getvalue():
        where = _culprit(trial, trial.code.clone(), lambda out: bool(out))
        raise SpikeproofError(
            "a model that prints nothing",
            f"{text[:40]!r} from {where}",
            mend="take the print out: an attack calls the model thousands of times",
        )


@torch.no_grad()
def _refuse_changed_input(trial: Trial) -> str | None:
    """Of a network that is given all at once a copy will do; the next step would get another input."""
    if trial.body.changes_input:
        return "the input is changed in place: it is fed a copy"
    given = trial.code.clone()
    with contextlib.redirect_stdout(io.StringIO()):
        trial.victim.classify(given, exact)
    if not torch.equal(given, trial.code):
        given = trial.code.clone()
        where = _culprit(trial, given, lambda out: not torch.equal(given, trial.code))
        raise SpikeproofError(
            "a model that leaves its input alone",
            f"another input after {where}",
            mend="take out operations in place: inplace=True, add_, x[...] = ...",
        )
    return None


@torch.no_grad()
def _refuse_sizes(trial: Trial) -> str | None:
    """One image alone, two, and all of them but one: an attack goes on with whatever is left standing."""
    if trial.body.batch is not None:
        return f"takes {trial.body.batch} images at a time: batches are filled up, and their logits are their own"
    z = trial.code
    with forked(z.device):
        whole, again = trial.logits(z), trial.logits(z)
        for count in dict.fromkeys((1, 2, max(z.shape[1] - 1, 1))):
            trial.logits(z[:, :count])
        alone = torch.cat([trial.logits(z[:, i : i + 1]) for i in range(min(4, z.shape[1]))])
    apart = (alone - whole[: len(alone)]).abs().amax(1) / whole.abs().max().clamp(min=1e-12)
    if torch.equal(whole, again) and bool((apart > _ROUNDING).all()):  # else it remembers, or draws noise
        raise SpikeproofError(
            "the same logits of an image alone and in a batch",
            f"logits that differ by {float(apart.min()):.3g} of their size or more for each of {len(alone)} images",
            mend=_SIZES,
        )
    return None


_ROUNDING = 1e-3
"""Kernels for batches of another size may round otherwise, and move a spike here and there, but not in every image."""


@torch.no_grad()
def _refuse_unfinite(trial: Trial) -> None:
    """Before anything is compared: a NaN differs from itself, and would pass for a memory."""
    with forked(trial.code.device):
        if not bool(torch.isfinite(trial.logits(trial.code)).all()):
            mend = "look for a division or a logarithm"
            raise SpikeproofError("finite numbers as logits", "NaN or infinity", mend=mend)


def _refuse_memory(trial: Trial) -> None:
    """The same input again, with another one in between and a smaller batch."""
    network, z = trial.network, trial.code
    with forked(z.device):
        first = trial.logits(z)
        before = _copied(network)
        trial.logits(1.0 - z)
        between = _copied(network)
        trial.logits((1.0 - z)[:, : max(z.shape[1] // 2, 1)])
        again = trial.logits(z)
    if torch.equal(first, again):
        return
    changed = [name for name, tensors in before.items() if not _equal(tensors, between[name])]
    rested = names()  # what a framework's neuron keeps is put back to rest, so that it is somebody else's
    changed.sort(key=lambda name: type(network.get_submodule(name)).__module__.split(".")[0] not in rested)
    if changed:
        where, mend = f"{called(changed[-1], network.get_submodule(changed[-1]))} remembers", _REST
    elif torch.equal(trial.drawn(z), trial.drawn(z)):
        with forked(z.device):
            where, mend = f"noise is drawn in {_first_change(trial.logits, network, z, z, slice(None))}", _NOISE
    else:
        where, mend = "something in it remembers, or draws noise", f"{_REST}; {_NOISE}"
    raise SpikeproofError(
        "the same answer to the same images, whatever was seen in between",
        f"logits that differ by {float((first - again).abs().max()):.3g}: {where}",
        mend=mend,
    )


_REST = "let forward start from rest, and set anew what it keeps"
_NOISE = "draw no noise in eval mode; a random encoder is given to wrap, as encoder=Poisson()"


def _refuse_company(trial: Trial) -> None:
    """Every second image among others than before: its logits are its own."""
    z = trial.code[:, : len(trial.images) // 2 * 2]
    other = 1.0 - z
    other[:, 1::2] = z[:, 1::2]
    apart = (trial.drawn(z)[1::2] - trial.drawn(other)[1::2]).abs().max()
    if apart == 0:
        return
    where = _first_change(trial.drawn, trial.network, z, other, slice(1, None, 2))
    raise SpikeproofError(
        "logits of an image that do not depend on the others in its batch",
        f"logits that differ by {float(apart):.3g}: images are mixed in {where}",
        mend="give what takes (T,N,*) the time first, not (N,T,*); batch-norm needs its running statistics",
    )


def _copied(network: nn.Module) -> dict[str, list[Tensor]]:
    return {name: [tensor.detach().clone() for tensor in tensors] for name, tensors in kept(network).items()}


def _equal(new: list[Tensor], old: list[Tensor]) -> bool:
    return len(new) == len(old) and all(torch.equal(a, b) for a, b in zip(new, old, strict=True))


def _culprit(trial: Trial, z: Tensor, wrong: Callable[[str], bool]) -> str:
    """The first module, inner before outer, after whose call on z something is wrong with it or what was printed."""
    culprits: list[str] = []
    printed = io.StringIO()

    def seen(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if not culprits and wrong(printed.getvalue()):
            culprits.append(called(name, module))

    with hooked(trial.network, seen), contextlib.redirect_stdout(printed), torch.no_grad():
        trial.victim.classify(z, exact)
    return culprits[0] if culprits else "the model"


def _first_change(call: Callable[[Tensor], Tensor], network: nn.Module, z: Tensor, other: Tensor, rows: slice) -> str:
    """The first module, inner before outer, whose output changes in `rows` from z to other while its input does not."""
    calls: list[list[tuple[str, list[Tensor], list[Tensor]]]] = []
    for given in (z, other):
        calls.append([])

        def seen(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
            took, gave = ([t.detach()[rows].clone() for t in tensors_in(v) if t.dim()] for v in (inputs, output))
            calls[-1].append((called(name, module), took, gave))

        with hooked(network, seen):
            call(given)
    before, after = calls
    for (where, took, gave), (_, took_then, gave_then) in zip(before, after, strict=False):
        if _equal(took, took_then) and not _equal(gave, gave_then):
            return where
    return "the model's own forward"


def _refuse_probabilities(trial: Trial) -> None:
    refuse_probabilities(trial.logits(trial.code))


def _refuse_graphs(trial: Trial) -> str | None:
    """What is overwritten by the next call is one graph, and is dropped; what grows would fill the memory."""
    counts = [_graphs(trial) for _ in range(3)]
    first, *_, last = counts
    for name, count in last.items():
        if count > first.get(name, 0):
            raise SpikeproofError(
                "a model that keeps no more graphs with every call",
                f"tensors with a graph that pile up in {called(name, trial.network.get_submodule(name))}",
                mend="keep x.detach(), or nothing: every step of an attack would be held in memory",
            )
    trial.body.overwrites = tuple(last)
    where = ", ".join(called(name, trial.network.get_submodule(name)) for name in last)
    return f"a graph is kept in {where} until the next call, and dropped here" if last else None


def _graphs(trial: Trial) -> dict[str, int]:
    """Modules that keep tensors with a graph after another call, and how many."""
    able = answering(trial.network, "a forward that can be differentiated", "call it by hand on x.requires_grad_()")
    with able, torch.enable_grad(), contextlib.redirect_stdout(io.StringIO()):
        trial.victim(trial.images.detach().clone().requires_grad_(), trial.rule, trial.keys)
    found = {name: sum(t.grad_fn is not None for t in tensors) for name, tensors in kept(trial.network).items()}
    return {name: count for name, count in found.items() if count}


BEHAVIOUR: dict[str, Callable[[Trial], str | None]] = {
    "prints": _refuse_prints,
    "input left alone": _refuse_changed_input,
    "state and noise": _refuse_memory,
    "images apart": _refuse_company,
    "batches": _refuse_sizes,
    "output": _refuse_probabilities,
    "graphs": _refuse_graphs,
}
