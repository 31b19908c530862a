"""Latency (time to first spike) coding: one spike per pixel, the brighter the earlier."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spikeproof.errors import UsageError
from spikeproof.tensors import graft, integers, per_image

__all__ = ["Latency"]


@dataclass(frozen=True)
class Latency:
    """The spike comes at step round((T - 1) (1 - x)) (SpikingJelly's linear latency).

    The backward is the secant of the one-hot code over +-h grey levels (1/255), h drawn per image from its key in
    1..reach: a pixel whose spike no admissible step can move gets gradient 0, which is a true zero.
    """

    reach: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.reach <= 255:
            raise UsageError("a secant reach in 1..255 levels", self.reach)

    @property
    def stochastic(self) -> bool:
        return False

    @staticmethod
    def _one_hot(x: Tensor, steps: int) -> Tensor:
        first = torch.round((steps - 1) * (1.0 - x))
        time = torch.arange(steps, device=x.device, dtype=x.dtype).view(-1, *[1] * x.dim())
        return (first == time).to(x.dtype)

    def __call__(self, x: Tensor, steps: int, keys: Tensor) -> Tensor:
        """Pixels (B,*) in [0,1] -> spikes (T,B,*) in {0,1}, exactly one per pixel."""
        spikes = self._one_hot(x.detach(), steps)
        if not x.requires_grad:
            return spikes
        h = per_image(x, integers(keys, 1, self.reach).to(x)) / 255.0
        above, below = (x.detach() + h).clamp(max=1.0), (x.detach() - h).clamp(min=0.0)
        slopes = (self._one_hot(above, steps) - self._one_hot(below, steps)) / (above - below)
        return graft(spikes, slopes * x)
