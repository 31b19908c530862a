"""Low contrast: lighting that washes an image out."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from spikeproof.corruptions._severity import AtSeverity

__all__ = ["Contrast"]


@dataclass(frozen=True)
class Contrast(AtSeverity):
    """m + c (x - m), m the mean of each channel; c 0.75, 0.5, 0.4, 0.3, 0.15."""

    def __call__(self, x: Tensor, keys: Tensor) -> Tensor:
        """Pixels (B,C,H,W) in [0,1], keys (B,) -> the same shape and range."""
        mean = x.mean((2, 3), keepdim=True)
        return (mean + self.pick((0.75, 0.5, 0.4, 0.3, 0.15)) * (x - mean)).clamp(0.0, 1.0)
