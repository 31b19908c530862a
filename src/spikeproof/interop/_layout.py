"""Which axis of a foreign network is time, found by asking it: images never mix, steps do."""

from __future__ import annotations

import contextlib
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from spikeproof.errors import SpikeproofError
from spikeproof.interop._borrowing import answering, hooked, seeded, twin
from spikeproof.interop._foreign import Feed, Foreign, Readout
from spikeproof.interop._states import Handing, Ran, handing_of
from spikeproof.interop.frameworks import StepMode, step_mode_of

__all__ = ["Layout", "layout_of"]

_TRIED = 4
"""Steps that a network is tried with where nobody says how many it was trained with."""

_LARGEST_BATCH = 1024
"""A fixed batch of more images than this is not looked for."""


@dataclass(frozen=True)
class Layout:
    """How a network is fed and read. steps, step_mode: what `wrap` must be told, None where it takes images; says: the
    axes in words; tried: whether the number of steps is one that was tried, and nobody's; the rest as in `Foreign`."""

    feed: Feed
    steps: int | None
    step_mode: StepMode | None
    says: str
    handing: Handing | None = None
    axis: int | None = None
    batch: int | None = None
    changes_input: bool = False
    tried: bool = False

    @property
    def call(self) -> str:
        """What to write behind `wrap(model, images`."""
        if self.steps is None:
            return ""
        return f", steps={'T' if self.tried else self.steps}, step_mode={self.step_mode!r}"

    def body(self, network: nn.Module, readout: Readout | None, channels: int, **options: Any) -> Foreign:
        """A network, fed and read so; options: `feed`, where another way is faster, and those of Foreign."""
        ways: dict[str, Any] = {
            "handing": self.handing, "axis": self.axis, "batch": self.batch, "changes_input": self.changes_input
        }  # fmt: skip
        return Foreign(network, options.pop("feed", self.feed), readout, channels, **ways, **options)


def layout_of(
    model: nn.Module, images: Tensor, steps: int | None, step_mode: StepMode | None, readout: Readout | None
) -> Layout:
    """How a model in eval mode takes images (N,C,H,W). steps: how many are encoded where it makes no time of its own.
    Of frames of events (N,T,C,H,W) there are T steps, and the model takes all of them, or one a call.

    Raises SpikeproofError for networks that take neither images nor steps (with the module that failed), and where
    steps or a step_mode are given that the network has no use for.
    """
    mode = step_mode or step_mode_of(model)
    timed = ["steps"] if mode == "s" else ["all_steps", "batch_first", "steps"]
    ways = ["images", *timed] if steps is None and step_mode is None else [*timed, "images"]
    if images.dim() == 5:
        steps, ways = images.shape[1], timed
    told = step_mode == "s"
    refusals: list[SpikeproofError] = []
    probe = _Probe(model, images, readout, steps, told)
    found = _first_way(probe, ways, refusals)
    sizes = _sizes(refusals, len(images)) if found is None else [probe.only(found)]
    for size in filter(None, sizes):
        if other := _first_way(_Probe(model, images, readout, steps, told, size), ways, []):
            found = other
            break
    if found is None:
        raise refusals[0] if refusals else SpikeproofError("a time axis or images", "neither is taken")
    return _wanted(replace(found, tried=steps is None and found.steps is not None), steps, step_mode)


def _first_way(probe: _Probe, ways: list[str], refusals: list[SpikeproofError]) -> Layout | None:
    """The first of the ways that the network takes, and what it says where it takes none of those before."""
    for way in ways:
        try:
            layout = {"images": probe.images, "all_steps": probe.all_steps, "batch_first": probe.batch_first,
                      "steps": probe.steps}[way]()  # fmt: skip
        except SpikeproofError as error:
            refusals.append(error)
            if isinstance(error, _Final):
                raise
            continue
        if layout is not None:
            return layout if probe.batch is None else probe.fixed(layout)
    return probe.mixing


def _sizes(refusals: list[SpikeproofError], given: int) -> list[int]:
    """Numbers of images that a network may insist on: as many as were given, and what its messages name."""
    named = [int(number) for error in refusals for number in re.findall(r"(?<!\d)\d{1,4}(?!\d)", error.got or "")]
    return [n for n in dict.fromkeys([given, *named]) if 1 < n <= _LARGEST_BATCH][:5]


def _wanted(layout: Layout, steps: int | None, step_mode: str | None) -> Layout:
    if steps is not None and layout.steps is None:
        raise SpikeproofError(
            f"a model that takes {steps} steps", layout.says, mend="leave steps away: it makes its own time"
        )
    if step_mode is not None and layout.step_mode != step_mode:
        raise SpikeproofError(f"step_mode {step_mode!r}", layout.says, mend=f"step_mode={layout.step_mode!r}")
    return layout


class _Final(SpikeproofError):
    """A refusal that ends the search."""


class _Probe:
    """Calls copies of a model with images of a number that no axis of time has; batch: the one that is tried."""

    def __init__(
        self, model: nn.Module, images: Tensor, readout: Readout | None, steps: int | None, told: bool,
        batch: int | None = None,
    ) -> None:  # fmt: skip
        self.model, self.readout, self.told, self.batch = model, readout, told, batch
        self.given = told or steps is not None  # whether its owner speaks of steps
        self.count = steps or _TRIED
        self.framed = images.dim() == 5  # the data bring the time
        self.x = images[:7] if batch is None else images[torch.arange(batch, device=images.device) % len(images)]
        if len(self.x) == self.count and batch is None:
            if len(self.x) > 2:
                self.x = self.x[:-1]
            elif self.framed:
                self.x = self.x[[0, 1, 0]]
        self.mixing: Layout | None = None
        self.unread = ""
        self.changed = False

    def sequence(self, count: int) -> Tensor:
        """The images as so many steps (T,N,C,H,W); of frames, as many as there are at most."""
        return _sequence(self.x, count)

    def images(self) -> Layout | None:
        """(N,C,H,W) -> logits; None where the images mix, or each call is but one step of a network with a memory."""
        with self._asked("images") as (ask, counts):
            out = ask(self.x[None])
        batch_axis = self._batch_axis("images", self.x[None], out)
        if batch_axis is None or (counts["a step"] and not counts["all steps"] and not counts["again"]):
            return None
        if self.handing() is not None:
            return None
        neurons = counts["a step"] + counts["all steps"] > 0
        inside = "makes its own time" if neurons or out.dim() == 3 else "keeps time, if it has any, inside"
        return self._unless_mixed("images", self.x[None], out, batch_axis, f"takes images (N,C,H,W), {inside}")

    def all_steps(self) -> Layout | None:
        """(T,N,C,H,W) -> logits."""
        return self._timed("all_steps", "takes all steps at once, time first, (T,N,C,H,W)")

    def batch_first(self) -> Layout | None:
        """(N,T,C,H,W) -> logits."""
        return self._timed("batch_first", "takes all steps at once, the batch first, (N,T,C,H,W)")

    def _timed(self, feed: Feed, says: str) -> Layout | None:
        z = self.sequence(self.count + (self.count == len(self.x) and not self.framed))
        with self._asked(feed) as (ask, _):
            out = ask(z)
        batch_axis = self._batch_axis(feed, z, out)
        return None if batch_axis is None else self._unless_mixed(feed, z, out, batch_axis, says)

    def steps(self) -> Layout | None:
        """(N,C,H,W) once a step -> logits (N,K) each."""
        handing = self.handing()
        with self._asked("steps", handing) as (ask, counts):
            out = ask(self.sequence(self.count))
        stepped = counts["a step"] and not counts["all steps"]
        if out.shape[:2] != (self.count, len(self.x)):
            return None
        if not (self.told or stepped or handing or not torch.equal(out[0], out[-1])):
            return None  # without a memory there are no steps, unless its owner says so
        keeps = "keeps its state in between" if handing is None else "is handed its states"
        says = f"takes one step a call, (N,C,H,W) each, and {keeps}; returns {_axes(out[0], None)}{self._rest()}"
        return Layout("steps", self.count, "s", says, handing, 0, changes_input=self.changed)

    def handing(self) -> Handing | None:
        """How the states of a network of one step a call are handed over; None where there are none."""
        first = self.x[:, 0] if self.framed else self.x
        z = _sequence(first, max(2, min(self.count, 16)))  # the same in every step: what differs is what is remembered

        def run(way: Handing | None) -> Ran | None:
            body = Foreign(twin(self.model), "steps", None, z.shape[2], rewired=False)
            try:
                with contextlib.redirect_stdout(io.StringIO()), torch.no_grad(), seeded(z.device):
                    return body.stepped(z.clone(), way)
            except Exception:  # one that does not take its states so, whatever it raises
                return None

        try:
            return handing_of(self.model, run, told=self.given, loops=self._loops)
        except SpikeproofError as error:
            raise _Final(error.expected, error.got, mend=error.mend) from error

    def _loops(self) -> bool:
        """Whether one call meets a module with weights again, as a loop over time does."""
        with self._asked("images") as (ask, counts), contextlib.suppress(SpikeproofError):
            ask(self.sequence(1))
        return counts["weights again"] > 0

    def only(self, layout: Layout) -> int | None:
        """The number of images that it was called with, where one more is too many; None where any number will do."""
        count = len(self.x)
        more = self.x[torch.arange(count + 1, device=self.x.device) % count]
        try:
            with self._asked(layout.feed, layout.handing) as (ask, _):
                ask(_sequence(more, layout.steps or 1))
        except SpikeproofError:
            return count
        return None

    def fixed(self, layout: Layout) -> Layout:
        """A layout of the one number of images that the network takes."""
        return replace(layout, batch=self.batch, says=f"{layout.says}; takes {self.batch} images at a time, no others")

    def _unless_mixed(self, feed: Feed, z: Tensor, out: Tensor, batch_axis: int, says: str) -> Layout | None:
        axis = None if out.dim() == 2 else 1 - batch_axis
        steps = None if feed == "images" else self.count
        mode: StepMode | None = None if feed == "images" else "m"
        says = f"{says}; returns {_axes(out, axis)}{self._rest()}"
        layout = Layout(feed, steps, mode, says, axis=axis, changes_input=self.changed)
        if not self._mixes(feed, z, 1, batch_axis):
            return layout
        self.mixing = self.mixing or layout  # images in the place of steps, or a mistake inside
        return None

    def _batch_axis(self, feed: Feed, z: Tensor, out: Tensor) -> int | None:
        """Which of the first axes of an output is that of the images, None where none is.

        Where two are as long, it is the one along which a change of the last image alone is seen at its place alone.
        """
        size = z.shape[1]
        long = [axis for axis in range(out.dim() - 1) if out.shape[axis] == size]
        if len(long) < 2:
            return long[0] if long else None
        other = z.clone()
        other[:, -1] = 1.0 - z[:, -1]
        with self._asked(feed) as (ask, _):
            changed = (ask(z) != ask(other)).any(-1)
        return 1 if not bool(changed[:, :-1].any()) and bool(changed[:-1].any()) else 0

    def _rest(self) -> str:
        return f"; {self.unread}" if self.unread else ""

    @contextlib.contextmanager
    def _asked(
        self, feed: Feed, handing: Handing | None = None
    ) -> Iterator[tuple[Callable[[Tensor], Tensor], Counter[str]]]:
        """A copy as its owner calls it, from rest; how often neurons got one step (N,*), all, or were met again,
        and modules with weights were."""
        body = Foreign(twin(self.model), feed, self.readout, self.x.shape[-3], rewired=False, handing=handing)
        names: Counter[str] = Counter()
        counts: Counter[str] = Counter()

        def seen(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
            names[name] += 1
            counts["weights again"] += names[name] > 1 and next(module.parameters(recurse=False), None) is not None
            owners = [framework for framework in body.frameworks if framework.is_neuron(module)]
            if owners:
                timed = any(framework.step_mode(module) == "m" for framework in owners)
                one = not timed and len(inputs[0]) == len(self.x)
                counts["a step" if one else "all steps"] += 1
                counts["again"] += names[name] > 1

        def ask(z: Tensor) -> Tensor:
            shape = tuple(z.transpose(0, 1).shape) if feed == "batch_first" else tuple(z.shape[feed != "all_steps" :])
            mend = "the shape of one image, and the number of steps of training; call it by hand"
            able, quiet = answering(body.network, f"a model that takes {shape}", mend), io.StringIO()
            given = z.clone()
            with able, contextlib.redirect_stdout(quiet), torch.no_grad(), seeded(z.device):
                out = body.raw(given)
            same = torch.equal(given, z)
            self.unread, self.changed = body.unread, body.touched if same else feed != "steps"
            return _output(out)

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


def _sequence(x: Tensor, count: int) -> Tensor:
    """Images (N,C,H,W) again and again, or frames (N,T,C,H,W) one after the other -> (count,N,C,H,W), a copy."""
    return x.transpose(0, 1)[:count].clone() if x.dim() == 5 else x[None].repeat(count, 1, 1, 1, 1)


def _output(out: Any) -> Tensor:
    """Logits of one step or of all, or the refusal of anything else."""
    if isinstance(out, Tensor) and out.dim() in (2, 3) and out.shape[-1] > 1:
        return out
    got = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
    mend = "a readout, from what the model returns to (N,K)"
    if isinstance(out, Tensor) and (out.dim() == 1 or out.shape[-1] == 1):
        mend += "; of one number z: readout=lambda z: torch.stack([0 * z.flatten(), z.flatten()], 1)"
    raise SpikeproofError("logits (N,K) or (T,N,K), of two classes or more", got, mend=mend)


def _axes(out: Tensor, axis: int | None) -> str:
    axes = "N" if out.dim() == 2 else "T,N" if axis == 0 else "N,T"
    return f"logits ({axes},{out.shape[-1]})" + (", averaged over T" if axis == 1 else "")
