"""What `wrap` makes of a network of another framework, an nn.Module or a bare callable, and how."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikeproof.encoders.direct import Direct
from spikeproof.encoders.frames import Frames
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.interop._behaviour import Trial, examine
from spikeproof.interop._borrowing import answering, forked, share_what_stays, twin
from spikeproof.interop._deployed import accept
from spikeproof.interop._finding import Named, check_named, find_spikes
from spikeproof.interop._foreign import Asked, Feed, Foreign, Readout
from spikeproof.interop._gradient import unfinite
from spikeproof.interop._hooks import lookers
from spikeproof.interop._layout import Layout, layout_of
from spikeproof.interop._owner import answers_of, module_of, registered
from spikeproof.interop._preserved import preserved
from spikeproof.interop._progress import Progress, told
from spikeproof.interop.frameworks import StepMode, frameworks_of
from spikeproof.limits import STEPS
from spikeproof.rules.atan import ATan
from spikeproof.tensors import exact, image_keys
from spikeproof.types import Encoder, Estimator, Rule, Shaped
from spikeproof.victims.door import images_of, in_own_modes
from spikeproof.victims.victim import Victim, borrowed

__all__ = ["Wrapped", "frames_of", "steps_of", "wrap"]

_SINGLE = 16
"""Networks of at most so many neurons are tried with each of them left alone; others with all."""


_NO_NEURON = (
    "no known neuron: every rule gives the network's own gradient; spikes of your own code can be named, "
    "wrap(..., spikes={MySpike: 'v'})"
)


class Wrapped(Victim):
    """A victim whose body is a foreign network; `wrap` makes it."""

    body: Foreign
    apart: float = 0.0
    """By how much its logits differed from those of the model itself when it was wrapped, of their size."""

    @property
    def rule(self) -> Rule | None:
        """That of training: what `evaluate` takes where none is given; None where the network has no known neuron.

        ATan(2) where spikes of its own code have a surrogate that gives most images no gradient; `notes` say so.
        """
        return self.body.rule

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of its numbers should know of the wrapping."""
        why = {name: "the model's answer is another without it" for name in self.body.stay}
        kept = [f"{name} keeps its own surrogate: {why.get(name, 'its dynamics are not known')}"
                for name in self.body.foreign]  # fmt: skip
        found = [repr(spot.site.name) for spot in self.body.own_spikes.spots()]
        kept += (
            [f"a rule gives the slope of {', '.join(found)}, found in code whose loop and reset stay"] if found else []
        )
        kept += [self.body.mute] if self.body.mute else []
        kept += [f"logits differ from the model's own by up to {self.apart:.2g} of their size"] if self.apart else []
        known = kept or self.body.sites() or isinstance(self.body.network, Asked)
        said = kept if known else [_NO_NEURON]
        return tuple([*said, *([self.body.unread] if self.body.unread else [])])

    @property
    def differentiable(self) -> bool:
        return not isinstance(self.body.network, Asked)

    @property
    def one_gradient(self) -> bool:
        return self.differentiable and not self.body.sites()

    def unfinite(self, x: Tensor, rule: Rule, keys: Tensor) -> str:
        return unfinite(borrowed(self), x, rule) if self.differentiable else ""

    def supports(self, estimator: Estimator) -> bool:
        """Whether an estimator, with its rules, can be used on this network."""
        return not self.body.objection(estimator)


@in_own_modes
def wrap(
    model: Callable[..., Any],
    images: Tensor,
    *,
    steps: int | None = None,
    encoder: Encoder | None = None,
    step_mode: StepMode | None = None,
    readout: Readout | None = None,
    tolerance: float = 1e-6,
    spikes: Named | None = None,
) -> Wrapped:
    """A victim of somebody's own network, which is left as it is: a copy is rewired, on the same weights, and on the
    same buffers but for those that a call writes to. Hooks that only look stay with the owner's.

    model: a network of SpikingJelly 2, snnTorch 1 or Norse 1.1, or any other nn.Module, also scripted or compiled, in
    eval mode; or a callable, which only black-box attacks can attack. images (B,C,H,W) in [0,1], a tensor or an array,
    two or more: the victim is held against the model itself on them, called as its owner calls it. steps: how many
    steps the encoder (Direct where none is given) makes of an image; None: the model takes images and makes its own
    time. step_mode: 'm', the model takes all steps at once, (T,B,*) or (B,T,*); 's', (B,*) T times; where not given, it
    is found by asking. readout: from what the model returns to logits (B,K); where not given, the first of several
    things, averaged over time. tolerance: by how much the victim's logits may differ from the model's own, of their
    size: fused kernels of a framework round in other places, and then spikes may flip. spikes: where `wrap` does not
    find the spikes of code of your own, {MySpike: 'v'}: a class of `autograd.Function` or of modules, and the argument
    of its forward that is compared with a threshold.

    Every call starts from rest. Raises SpikeproofError, with the name of the module, for models in train mode, on
    another device or of another precision than the images, or of less than single precision; that take one step a call,
    without `steps`; that remember, draw noise, print, or keep more graphs with every call; that return no logits, or
    others than their copy; and for neurons whose forward is not what it seems.
    """
    check_named(spikes)
    steps = steps_of(steps)
    _refuse_arguments(step_mode, readout, tolerance)
    images = images_of(images)
    if images.dim() not in (4, 5) or len(images) < 2:
        raise SpikeproofError("two images (B,C,H,W), or frames (B,T,C,H,W), or more to try the model on",
                              tuple(images.shape))  # fmt: skip
    if images.dim() == 5:
        steps = frames_of(images, steps, encoder)
    elif steps is None and (encoder is not None or step_mode is not None):
        raise UsageError("steps with an encoder or a step_mode", "none", mend="say how many steps to encode")
    model = module_of(model)
    accept(model, images)
    with preserved(model, registered(model)), forked(images.device), told("wrap", 4) as progress:
        progress("axes")
        layout = layout_of(model, images, steps, step_mode, readout)
        if layout.tried and _remembers(model, layout):
            layout = replace(layout, feed="images", steps=None, step_mode=None, axis=None)  # its behaviour is refused
        elif layout.tried:
            mend = f"wrap(model, images{layout.call}), T as in training"
            if layout.handing is not None and layout.handing.names:
                whole = f"where {', '.join(layout.handing.names)} is no state of a step, a module with forward(x) alone"
                mend = f"{mend}; {whole}"
            raise SpikeproofError("the number of steps of a model that is given steps", layout.says, mend=mend)
        return _Wrapping(model, images, layout, encoder, readout, tolerance, spikes).run(progress)


def steps_of(given: object) -> int | None:
    """A number of steps, also one of numpy's; UsageError for anything else than such a number or None."""
    if given is None:
        return None
    if isinstance(given, int | np.integer) and not isinstance(given, bool) and 1 <= given <= STEPS:
        return int(given)
    raise UsageError(f"steps in 1..{STEPS}", repr(given), mend="a whole number, as in training")


def frames_of(frames: Tensor, steps: int | None, encoder: Encoder | None) -> int:
    """T of frames (B,T,C,H,W); refuses other axes, as far as their sizes tell, and an encoder of images."""
    shape = tuple(frames.shape)
    if shape[1] == 2 != shape[2]:
        mend = "frames.transpose(1, 2), if the polarities stand before the time"
        raise SpikeproofError("frames (B,T,2,H,W), of two polarities", f"shape {shape}", mend=mend)
    if steps not in (None, shape[1]):
        mend = f"leave steps away: the frames are {shape[1]}"
        if steps == shape[0]:
            mend = "frames.transpose(0, 1), recordings first, if the time stands before them"
        raise SpikeproofError(f"frames (B,{steps},C,H,W), one for each step", f"shape {shape}", mend=mend)
    if encoder is not None and not (isinstance(encoder, Shaped) and encoder.takes == "TCHW"):
        mend = "leave the encoder away, or spikeproof.encoders.frames.Frames"
        raise UsageError("an encoder of frames (B,T,C,H,W)", type(encoder).__name__, mend=mend)
    return shape[1]


def _refuse_arguments(step_mode: object, readout: object, tolerance: Any) -> None:
    if step_mode not in (None, "m", "s"):
        raise UsageError("a step_mode", repr(step_mode), valid=("'m'", "'s'"), mend="leave it away: it is found")
    if readout is not None and not callable(readout):
        raise UsageError("a readout, from what the model returns to logits (N,K)", repr(readout),
                         mend="a function: readout=lambda out: out[0]")  # fmt: skip
    number = isinstance(tolerance, int | float | np.floating) and not isinstance(tolerance, bool)
    if not number or not 0 <= tolerance < 1:
        raise UsageError("a tolerance in [0,1), of the size of the logits", repr(tolerance), mend="1e-6, or leave it")


class _Wrapping:
    """One model, and how it is called."""

    def __init__(
        self, model: nn.Module, images: Tensor, layout: Layout, encoder: Encoder | None, readout: Readout | None,
        tolerance: float, spikes: Named | None,
    ) -> None:  # fmt: skip
        self.spikes = spikes
        self.model, self.images, self.layout, self.readout = model, images, layout, readout
        self.encoder, self.tolerance = encoder or (Frames() if images.dim() == 5 else Direct()), tolerance
        self.hooks: frozenset[int] = frozenset()

    def run(self, progress: Progress) -> Wrapped:
        progress("the model itself")
        self.hooks = lookers(self.model, self._answers)
        expected = self._answers(self.model, 1)[0]
        progress("its copies")
        wrapped = self._closest(expected)
        progress("its behaviour")
        rule = wrapped.rule or (exact if isinstance(self.model, Asked) else ATan())
        trial = Trial(borrowed(wrapped), self.images, rule)
        examine(trial)
        wrapped.body.overwrites = trial.body.overwrites
        self._hold(wrapped)
        wrapped.body.classes = expected.shape[1]
        find_spikes(wrapped, self.images, self.spikes)
        share_what_stays(wrapped.body.network, self.model)
        return wrapped

    def _answers(self, network: nn.Module, count: int = 3) -> list[Tensor]:
        return answers_of(network, self.layout, self.images, self.encoder, self.readout, count)

    def _victim(self, feed: Feed, stay: Collection[str]) -> Wrapped:
        copied = twin(self.model, without=self.hooks)
        body = self.layout.body(copied, self.readout, self.images.shape[-3], feed=feed, stay=stay)
        return Wrapped(body, self.encoder, self.layout.steps or 1).eval()

    def _closest(self, expected: Tensor) -> Wrapped:
        """The first copy that gives the expected logits: all neurons rewired, or all but those that are looked into."""
        ways = list(self._ways())
        best: Wrapped | None = None
        for number, (feed, stay) in enumerate(ways, start=1):
            wrapped = self._victim(feed, stay)
            wrapped.apart = self._apart(wrapped, expected, last=number == len(ways))
            if wrapped.apart <= self.tolerance:
                return wrapped
            best = wrapped
        assert best is not None
        return best

    def _ways(self) -> Iterator[tuple[Feed, tuple[str, ...]]]:
        """Ways to feed a copy, fastest first, and which neurons stay as they are; the last is its owner's."""
        foldable = any(framework.foldable(self.model) for framework in frameworks_of(self.model))
        if self.layout.feed == "steps" and foldable and self.layout.batch is None:
            yield "folded", ()
        yield self.layout.feed, ()
        names = _neurons(self.model)
        for name in names if 1 < len(names) <= _SINGLE else ():
            yield self.layout.feed, (name,)
        if names:
            yield self.layout.feed, tuple(names)

    @torch.no_grad()
    def _apart(self, victim: Wrapped, expected: Tensor, *, last: bool) -> float:
        """How far the logits are from the expected ones, of their size; infinite where a copy fails."""
        mend = "call a copy.deepcopy of the model by hand in eval mode"
        try:
            with answering(victim.body.network, "a model whose copy can be called", mend):
                logits: Tensor = victim(self.images.clone(), exact, _keys(self.images))
        except SpikeproofError:
            if last:
                raise
            return float("inf")
        if logits.shape != expected.shape:
            return float("inf")
        return float((logits - expected).abs().max() / expected.abs().max().clamp(min=1e-12))

    def _hold(self, wrapped: Wrapped) -> None:
        if wrapped.apart <= self.tolerance:
            return
        raise SpikeproofError(
            "the logits of the model itself from a copy of it",
            f"logits that differ by {wrapped.apart:.3g} of their size",
            mend="keep in the model what its forward uses: no state, reset or hook that reaches past it to other "
            "objects; for the rounding of fused kernels give a tolerance",
        )


def _remembers(model: nn.Module, layout: Layout) -> bool:
    """Whether a network that answers otherwise at every call has nothing that shows what it keeps, or puts it back."""
    return layout.feed == "steps" and layout.handing is None and not _neurons(model)


def _neurons(model: nn.Module) -> list[str]:
    frameworks = frameworks_of(model)
    named = {name or "network": module for name, module in model.named_modules()}
    return [name for name, module in named.items() if any(f.is_neuron(module) for f in frameworks)]


def _keys(images: Tensor) -> Tensor:
    return image_keys(0, torch.arange(len(images))).to(images.device)
