"""Impulse noise, or salt and pepper: dead and stuck pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spikeproof.corruptions._severity import AtSeverity
from spikeproof.tensors import uniform

__all__ = ["ImpulseNoise"]


@dataclass(frozen=True)
class ImpulseNoise(AtSeverity):
    """A share of all entries becomes 0 or 1, each half the time; the share is 0.01, 0.02, 0.03, 0.05, 0.07."""

    def __call__(self, x: Tensor, keys: Tensor) -> Tensor:
        """Pixels (B,C,H,W) in [0,1], keys (B,) -> the same shape and range."""
        half = self.pick((0.01, 0.02, 0.03, 0.05, 0.07)) / 2
        drawn = uniform(keys, x.shape[1:]).to(x.device)
        return torch.where(drawn < half, 0.0, torch.where(drawn >= 1 - half, 1.0, x))
