"""Brightness: another time of the day."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spikeproof.corruptions._severity import AtSeverity

__all__ = ["Brightness"]


@dataclass(frozen=True)
class Brightness(AtSeverity):
    """The value of the HSV colour plus 0.05, 0.1, 0.15, 0.2, 0.3, at most 1; hue and saturation stay.

    The value of a pixel is its largest channel, so that all channels grow by one factor; black becomes grey.
    """

    def __call__(self, x: Tensor, keys: Tensor) -> Tensor:
        """Pixels (B,C,H,W) in [0,1], keys (B,) -> the same shape and range."""
        value = x.amax(1, keepdim=True)
        raised = (value + self.pick((0.05, 0.1, 0.15, 0.2, 0.3))).clamp(max=1.0)
        black = value == 0
        return torch.where(black, raised, x * (raised / value.where(~black, 1.0))).clamp(0.0, 1.0)
