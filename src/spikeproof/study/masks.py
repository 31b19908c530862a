"""Masks: mistakes and tricks that have made published numbers too high, each as a change to an honest network.

Those of the gradient leave every answer as it is; the others are what a network did before anybody looked.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from spikeproof.tensors import fold, graft, signs, uniform
from spikeproof.types import Encoder, Rule
from spikeproof.victims.victim import Body, Victim

__all__ = [
    "batch_statistics", "gradient_of", "hashed", "hidden", "noisy", "remembering", "seeded_noise", "turned",
    "with_body", "with_pixels",
]  # fmt: skip


class _Behind(nn.Module):
    """A body with something done to its logits."""

    def __init__(self, body: nn.Module, after: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.after = body, after
        self.in_channels, self.classes = cast(Body, body).in_channels, cast(Body, body).classes

    def classify(self, z: Tensor, rule: Rule) -> Tensor:
        return self.after(cast(Body, self.body).classify(z, rule))


class _TwoFaced(nn.Module):
    """The logits of one body, the gradient of another."""

    def __init__(self, body: nn.Module, shown: nn.Module) -> None:
        super().__init__()
        self.body, self.shown = body, shown
        self.in_channels, self.classes = cast(Body, body).in_channels, cast(Body, body).classes

    def classify(self, z: Tensor, rule: Rule) -> Tensor:
        with torch.no_grad():
            value = cast(Body, self.body).classify(z, rule)
        return graft(value, cast(Body, self.shown).classify(z, rule)) if z.requires_grad else value


@dataclass(frozen=True)
class _Through:
    """An encoder with something done to the pixels first."""

    encoder: Encoder
    change: Callable[[Tensor], Tensor]

    @property
    def stochastic(self) -> bool:
        return self.encoder.stochastic

    def __call__(self, x: Tensor, steps: int, keys: Tensor) -> Tensor:
        return self.encoder(self.change(x), steps, keys)


class _Remembering(nn.Module):
    """Adds a part of the last call's logits to the next, a state that nobody reset: of each image, or their mean."""

    def __init__(self, *, each: bool = False) -> None:
        super().__init__()
        self.each = each
        self.last = torch.zeros(())

    def forward(self, logits: Tensor) -> Tensor:
        out = logits + 0.3 * self.last.to(logits)
        self.last = logits.detach() if self.each else logits.detach().mean(0)
        return out


def with_body(victim: Victim, after: Callable[[Tensor], Tensor]) -> Victim:
    """The same with something done to its logits."""
    return Victim(_Behind(copy.deepcopy(victim.body), after), victim.encoder, victim.steps).eval()


def with_pixels(victim: Victim, change: Callable[[Tensor], Tensor]) -> Victim:
    """The same with something done to its pixels."""
    return Victim(victim.body, _Through(victim.encoder, change), victim.steps).eval()


def gradient_of(victim: Victim, other: Victim) -> Victim:
    """The answers of one network, the gradient of another that was trained on the same."""
    return Victim(_TwoFaced(victim.body, other.body), victim.encoder, victim.steps).eval()


def batch_statistics(victim: Victim) -> Victim:
    """Batch-norm that takes the statistics of whatever batch it is in, also in eval mode."""
    masked = copy.deepcopy(victim)
    for module in masked.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = module.running_var = None
    return masked


def remembering(victim: Victim, *, each: bool = False) -> Victim:
    return with_body(victim, _Remembering(each=each))


def noisy(logits: Tensor) -> Tensor:
    return logits + 0.3 * torch.randn_like(logits)


def _every(x: Tensor, share: int) -> Tensor:
    """True at every so-manieth number of an image, the same in all of them: (*)."""
    return torch.arange(x[0].numel(), device=x.device).view(x.shape[1:]) % share == 0


def _seen_through(x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """The same pixels, with something done to their gradient."""
    if x.requires_grad:
        x = x.clone()
        x.register_hook(change)  # type: ignore[no-untyped-call]
    return x


def hidden(x: Tensor) -> Tensor:
    """Nine tenths of the pixels get no gradient."""
    return _seen_through(x, lambda g: g * _every(x, 10))


def turned(x: Tensor) -> Tensor:
    """A third of the pixels get their gradient with the other sign."""
    return _seen_through(x, lambda g: torch.where(_every(x, 3), -g, g))


def _keys(x: Tensor) -> Tensor:
    """A key for each image that one grey level of one pixel changes: (B,)."""
    levels = (255 * x.detach()).round().long().flatten(1)
    keys = torch.zeros(len(x), dtype=torch.long, device=x.device)
    return fold(keys + (levels * (2 * torch.arange(levels.shape[1], device=x.device) + 1) ** 3).sum(1), "mask")


def hashed(x: Tensor) -> Tensor:
    """Signs of the gradient that a hash of the image draws, its sizes as they are."""
    return _seen_through(x, lambda g: g.abs() * signs(_keys(x), x.shape[1:]).to(g))


def seeded_noise(x: Tensor) -> Tensor:
    """Noise of a tenth of the grey range that the image itself seeds: another for every image, the same each time."""
    return x + (0.2 * uniform(_keys(x), x.shape[1:]) - 0.1).to(x)
