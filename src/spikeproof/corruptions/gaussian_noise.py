"""Gaussian noise: the sensor in low light."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from spikeproof.corruptions._severity import AtSeverity
from spikeproof.tensors import normal

__all__ = ["GaussianNoise"]


@dataclass(frozen=True)
class GaussianNoise(AtSeverity):
    """x + sigma n, clipped; sigma 0.04, 0.06, 0.08, 0.09, 0.10."""

    def __call__(self, x: Tensor, keys: Tensor) -> Tensor:
        """Pixels (B,C,H,W) in [0,1], keys (B,) -> the same shape and range."""
        sigma = self.pick((0.04, 0.06, 0.08, 0.09, 0.10))
        return (x + sigma * normal(keys, x.shape[1:]).to(x)).clamp(0.0, 1.0)
