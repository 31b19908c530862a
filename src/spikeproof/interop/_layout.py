"""Which axis of a foreign network is time, found by asking it: images never mix, steps do."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spikeproof.errors import SpikeproofError
from spikeproof.interop._borrowing import answering, hooked, seeded, twin
from spikeproof.interop._foreign import Feed, Foreign, Readout
from spikeproof.interop.frameworks import StepMode, step_mode_of

__all__ = ["Layout", "layout_of"]


@dataclass(frozen=True)
class Layout:
    """steps, step_mode: what `wrap` must be told; says: the axes in words."""

    steps: int | None
    step_mode: StepMode | None
    says: str


def layout_of(
    model: nn.Module, images: Tensor, steps: int | None, step_mode: StepMode | None, readout: Readout | None
) -> Layout:
    """How a model in eval mode takes images (N,C,H,W). steps: how many are encoded where it makes no time of its own.

    Raises SpikeproofError for batch-first networks, for those that take neither images nor steps (with the module that
    failed), and where steps or a step_mode are given that the network has no use for.
    """
    probe = _Probe(model, images, readout, told=step_mode == "s")
    mode = step_mode or step_mode_of(model)
    timed = ["steps"] if mode == "s" else ["all_steps", "steps"]
    ways = ["images", *timed] if steps is None and step_mode is None else [*timed, "images"]
    refusals = []
    for way in ways:
        try:
            layout = {"images": probe.images, "all_steps": probe.all_steps, "steps": probe.steps}[way](steps or 4)
        except _BatchFirst:
            raise
        except SpikeproofError as error:
            refusals.append(error)
            continue
        if layout is not None:
            return _wanted(layout, steps, step_mode)
    if probe.mixing is not None:
        return _wanted(probe.mixing, steps, step_mode)
    raise refusals[0] if refusals else SpikeproofError("a time axis or images", "neither is taken")


def _wanted(layout: Layout, steps: int | None, step_mode: str | None) -> Layout:
    if steps is not None and layout.steps is None:
        raise SpikeproofError(
            f"a model that takes {steps} steps", layout.says, mend="leave steps away: it makes its own time"
        )
    if step_mode is not None and layout.step_mode != step_mode:
        raise SpikeproofError(f"step_mode {step_mode!r}", layout.says, mend=f"step_mode={layout.step_mode!r}")
    return layout


class _BatchFirst(SpikeproofError):
    """The one refusal that ends the search."""


class _Probe:
    """Calls copies of a model with images of a number that no axis of time has."""

    def __init__(self, model: nn.Module, images: Tensor, readout: Readout | None, *, told: bool) -> None:
        self.model, self.readout, self.told = model, readout, told
        self.x = images[:7]
        self.mixing: Layout | None = None

    def images(self, steps: int) -> Layout | None:
        """(N,C,H,W) -> logits; None where the images mix, or each call is but one step of a network with a memory."""
        size = len(self.x)
        with self._asked("images") as (ask, counts):
            out = ask(self.x[None])
        if out.shape[0] != size and not (out.dim() == 3 and out.shape[1] == size):
            return None
        if counts["a step"] and not counts["all steps"] and not counts["again"]:
            return None
        inside = "makes its own time" if counts or out.dim() == 3 else "keeps time, if it has any, inside"
        layout = Layout(None, None, f"takes images (N,C,H,W), {inside}; returns {_axes(out)}")
        if not self._mixes("images", self.x[None], 1, 0 if out.dim() == 2 else 1):
            return layout
        self.mixing = layout  # images in the place of steps, or a mistake inside
        return None

    def all_steps(self, steps: int) -> Layout | None:
        """(T,N,C,H,W) -> logits, by which axes mix; a batch-first network is refused."""
        steps += steps == len(self.x)
        z = self.x[None].repeat(steps, 1, 1, 1, 1)
        with self._asked("all_steps") as (ask, _):
            out = ask(z)
        if out.shape[0] not in (steps, len(self.x)) or (out.dim() == 3 and out.shape[:2] != (steps, len(self.x))):
            return None
        if out.dim() == 3:
            batch_first = self._mixes("all_steps", z, 1, 1) and not self._mixes("all_steps", z, 0, 0)
        else:
            batch_first = len(out) == steps  # the second axis is gone, so it was time
        if batch_first:
            raise _BatchFirst(
                "a network that takes (T,N,C,H,W), time first",
                "one that takes (N,T,C,H,W): along the first axis nothing mixes",
                mend="x.transpose(0, 1) where its forward begins, or in a module of three lines around it",
            )
        return Layout(steps, "m", f"takes all steps at once, time first, (T,N,C,H,W); returns {_axes(out)}")

    def steps(self, steps: int) -> Layout | None:
        """(N,C,H,W) once a step -> logits (N,K) each."""
        with self._asked("steps") as (ask, counts):
            out = ask(self.x[None].repeat(steps, 1, 1, 1, 1))
        stepped = counts["a step"] and not counts["all steps"]
        if out.shape[:2] != (steps, len(self.x)) or not (self.told or stepped or not torch.equal(out[0], out[-1])):
            return None  # without a memory there are no steps, unless its owner says so
        says = "takes one step a call, (N,C,H,W) each, and keeps its state in between"
        return Layout(steps, "s", f"{says}; returns {_axes(out[0])}")

    @contextlib.contextmanager
    def _asked(self, feed: Feed) -> Iterator[tuple[Callable[[Tensor], Tensor], Counter[str]]]:
        """A copy as its owner calls it, from rest; how often neurons got one step (N,*), all, or were met again."""
        body = Foreign(twin(self.model), feed, self.readout, self.x.shape[1], rewired=False)
        names: Counter[str] = Counter()
        counts: Counter[str] = Counter()

        def seen(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
            owners = [framework for framework in body.frameworks if framework.is_neuron(module)]
            if owners:
                names[name] += 1
                timed = any(framework.step_mode(module) == "m" for framework in owners)
                one = not timed and len(inputs[0]) == len(self.x)
                counts["a step" if one else "all steps"] += 1
                counts["again"] += names[name] > 1

        def ask(z: Tensor) -> Tensor:
            shape = tuple(z.shape[feed != "all_steps" :])
            mend = "the shape of one image, and the number of steps of training; call it by hand"
            able, quiet = answering(body.network, f"a model that takes {shape}", mend), io.StringIO()
            with able, contextlib.redirect_stdout(quiet), torch.no_grad(), seeded(z.device):
                out = body.raw(z.clone())
            if not isinstance(out, Tensor) or out.dim() not in (2, 3):
                got = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
                raise SpikeproofError(
                    "logits (N,K) or (T,N,K)", got, mend="a readout, from what the model returns to (N,K)"
                )
            return out

        with hooked(body.network, seen):
            yield ask, counts

    def _mixes(self, feed: Feed, z: Tensor, axis: int, out_axis: int) -> bool:
        """Whether every second along an axis of the output changes when the others along that axis of z do."""
        other = 1.0 - z
        kept = torch.arange(1, z.shape[axis], 2, device=z.device)
        other.index_copy_(axis, kept, z.index_select(axis, kept))
        with self._asked(feed) as (ask, _):
            one, two = (ask(given).index_select(out_axis, kept) for given in (z, other))
        return not torch.equal(one, two)


def _axes(out: Tensor) -> str:
    return f"logits ({'T,' * (out.dim() - 2)}N,{out.shape[-1]})"
