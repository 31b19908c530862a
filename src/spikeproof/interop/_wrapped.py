"""What `wrap` makes of a network of another framework, an nn.Module or a bare callable, and how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spikeproof.encoders.direct import Direct
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.interop._behaviour import examine
from spikeproof.interop._borrowing import answering, forked, share_what_stays, twin
from spikeproof.interop._deployed import accept
from spikeproof.interop._finding import Named, find_spikes
from spikeproof.interop._foreign import Asked, Feed, Foreign, Readout
from spikeproof.interop.frameworks import StepMode, frameworks_of, step_mode_of
from spikeproof.rules.atan import ATan
from spikeproof.tensors import exact, image_keys
from spikeproof.types import Encoder, Estimator, Rule
from spikeproof.victims.victim import Victim, borrowed

__all__ = ["Wrapped", "wrap"]


class Wrapped(Victim):
    """A victim whose body is a foreign network; `wrap` makes it."""

    body: Foreign
    apart: float = 0.0
    """By how much its logits differed from those of the model's own code when it was wrapped, of their size."""

    @property
    def rule(self) -> Rule | None:
        """That of training: what `evaluate` takes where none is given; None where the network has no known neuron.

        ATan(2) where spikes of its own code have a surrogate that gives most images no gradient; `notes` say so.
        """
        return self.body.rule

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of its numbers should know of the wrapping."""
        kept = [f"{name} keeps its own surrogate: its dynamics are not known" for name in self.body.foreign]
        found = [repr(spot.site.name) for spot in self.body.own_spikes.spots()]
        kept += (
            [f"a rule gives the slope of {', '.join(found)}, found in code whose loop and reset stay"] if found else []
        )
        kept += [self.body.mute] if self.body.mute else []
        kept += [f"logits differ from the model's own by up to {self.apart:.2g} of their size"] if self.apart else []
        known = kept or self.body.sites() or isinstance(self.body.network, Asked)
        return tuple(kept if known else ["no known neuron: every rule gives the network's own gradient"])

    @property
    def differentiable(self) -> bool:
        return not isinstance(self.body.network, Asked)

    @property
    def one_gradient(self) -> bool:
        return self.differentiable and not self.body.sites()

    def supports(self, estimator: Estimator) -> bool:
        """Whether an estimator, with its rules, can be used on this network."""
        return not self.body.objection(estimator)


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
    same buffers but for those that a call writes to.

    model: a network of SpikingJelly 2, snnTorch 1 or Norse 1.1, or any other nn.Module, in eval mode; or a callable,
    which only black-box attacks can attack. images (B,C,H,W) in [0,1], two or more: the victim is held against the
    model's own code on them. steps: how many steps the encoder (Direct where none is given) makes of an image; None:
    the model takes images and makes its own time. step_mode: 'm', the model takes (T,B,*) at once; 's', (B,*) T times;
    where not given, as modules of the framework say, else 'm'. readout: from what the model returns to logits (B,K);
    where not given, the first of a tuple, averaged over a leading time axis. tolerance: by how much the victim's logits
    may differ from the model's own, of their size: fused kernels of a framework round in other places, and then spikes
    may flip. spikes: where `wrap` does not find the spikes of code of your own, {MySpike: 'v'}: a class of
    `autograd.Function` or of modules, and the argument of its forward that is compared with a threshold.

    Every call starts from rest. Raises SpikeproofError, with the name of the module, for models in train mode, on
    another device or of another precision than the images, or of less than single precision; that remember, draw noise,
    change their input, print or keep graphs; that return no logits; and for neurons whose forward is not what it seems.
    """
    if steps is None and (encoder is not None or step_mode is not None):
        raise UsageError("steps with an encoder or a step_mode", "none", mend="say how many steps to encode")
    if images.dim() != 4 or len(images) < 2:
        raise SpikeproofError("two images (B,C,H,W) or more to try the model on", tuple(images.shape))
    model = model if isinstance(model, nn.Module) else Asked(model).eval()
    accept(model, images)

    def victim(feed: Feed, *, rewired: bool) -> Wrapped:
        body = Foreign(twin(model), feed, readout, images.shape[1], rewired=rewired)
        return Wrapped(body, encoder or Direct(), steps or 1).eval()

    feeds = _feeds(model, steps, step_mode)
    with forked(images.device):
        expected = _logits(victim(feeds[-1], rewired=False), images)
        for feed in feeds:
            wrapped = victim(feed, rewired=True)
            wrapped.apart = _apart(wrapped, images, expected, last=feed == feeds[-1])
            if wrapped.apart <= tolerance:
                break
        examine(borrowed(wrapped), images, wrapped.rule or (exact if isinstance(model, Asked) else ATan()))
    if not wrapped.apart <= tolerance:
        raise SpikeproofError(
            "the logits of the model's own code from its rewired copy",
            f"logits that differ by {wrapped.apart:.3g} of their size",
            mend="let forward not look into its neurons; for the rounding of fused kernels give a tolerance",
        )
    wrapped.body.classes = expected.shape[1]
    with forked(images.device):
        find_spikes(wrapped, images, spikes)
    share_what_stays(wrapped.body.network, model)
    return wrapped


def _feeds(model: nn.Module, steps: int | None, step_mode: str | None) -> tuple[Feed, ...]:
    """Ways to feed a model, fastest first; the last is its owner's."""
    if steps is None:
        return ("images",)
    if (step_mode or step_mode_of(model) or "m") == "m":
        return ("all_steps",)
    foldable = any(framework.foldable(model) for framework in frameworks_of(model))
    return ("folded", "steps") if foldable else ("steps",)


@torch.no_grad()
def _logits(victim: Wrapped, images: Tensor) -> Tensor:
    feed = victim.body.feed
    taken = f"a model that can be called on images {tuple(images.shape)}, fed as {feed!r}"
    mend = "time first, then the batch" if feed != "images" else "a network that takes a time axis needs steps=T"
    with answering(victim.body.network, taken, f"{mend}; call it by hand in eval mode"):
        keys = image_keys(0, torch.arange(len(images))).to(images.device)
        logits: Tensor = victim(images.clone(), exact, keys)
    return logits


def _apart(victim: Wrapped, images: Tensor, expected: Tensor, *, last: bool) -> float:
    """How far the logits are from the expected ones, of their size; infinite where a faster way to feed them fails."""
    try:
        logits = _logits(victim, images)
    except SpikeproofError:
        if last:
            raise
        return float("inf")
    return float((logits - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
