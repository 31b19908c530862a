"""Defocus blur: every point becomes a disk."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy  # its ndimage takes a third of a second to import, and does so when it is first asked
from torch import Tensor

from spikeproof.corruptions._severity import AtSeverity, array, tensor_like, width

__all__ = ["DefocusBlur"]


@dataclass(frozen=True)
class DefocusBlur(AtSeverity):
    """The mean over a disk of radius 0.3, 0.4, 0.5, 1, 1.5 pixels, whose edge a 3x3 Gaussian window softens (sigma 0.4,
    0.5, 0.6, 0.2, 0.1); the border is mirrored.

    Images of more than 32 pixels a side are blurred in proportion, smaller ones as if they had 32.
    """

    def __call__(self, x: Tensor, keys: Tensor) -> Tensor:
        """Pixels (B,C,H,W) in [0,1], keys (B,) -> the same shape and range."""
        radius, edge = self.pick(((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)))
        disk = _disk(width(x) * radius, edge)[None, None]
        return tensor_like(scipy.ndimage.correlate(array(x), disk, mode="mirror"), x)


def _disk(radius: float, edge: float) -> np.ndarray:
    """A kernel of odd sides that sums to 1: the pixels within `radius` of the middle, softened by sigma `edge`."""
    reach = math.ceil(radius) + 1
    along = np.arange(-reach, reach + 1)
    disk = (along[:, None] ** 2 + along**2 <= radius**2).astype(np.float64)
    soft = np.exp(-(np.arange(-1, 2) ** 2) / (2 * edge**2))
    softened = scipy.ndimage.correlate(disk, np.outer(soft, soft), mode="constant")
    return np.asarray(softened / softened.sum())
