"""Gaussian blur."""

from __future__ import annotations

from dataclasses import dataclass

import scipy  # its ndimage takes a third of a second to import, and does so when it is first asked
from torch import Tensor

from spikeproof.corruptions._severity import AtSeverity, array, tensor_like, width

__all__ = ["GaussianBlur"]


@dataclass(frozen=True)
class GaussianBlur(AtSeverity):
    """A Gaussian window of sigma 0.4, 0.6, 0.7, 0.8, 1 pixels, cut at 4 sigma; the border is continued.

    Images of more than 32 pixels a side are blurred in proportion, smaller ones as if they had 32.
    """

    def __call__(self, x: Tensor, keys: Tensor) -> Tensor:
        """Pixels (B,C,H,W) in [0,1], keys (B,) -> the same shape and range."""
        sigma = width(x) * self.pick((0.4, 0.6, 0.7, 0.8, 1.0))
        return tensor_like(scipy.ndimage.gaussian_filter(array(x), sigma, mode="nearest", truncate=4.0, axes=(2, 3)), x)
