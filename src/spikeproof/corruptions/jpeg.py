"""JPEG: what a lossy file leaves of an image."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image
from torch import Tensor

from spikeproof.corruptions._severity import AtSeverity, array, tensor_like

__all__ = ["JPEG"]


@dataclass(frozen=True)
class JPEG(AtSeverity):
    """Written and read again by Pillow at quality 80, 65, 58, 50, 40.

    Three channels are a colour image, whose hues are kept at half the resolution; other channels are grey, one by one.
    """

    def __call__(self, x: Tensor, keys: Tensor) -> Tensor:
        """Pixels (B,C,H,W) in [0,1], keys (B,) -> the same shape and range."""
        quality = self.pick((80, 65, 58, 50, 40))
        pixels = np.round(255 * array(x)).astype(np.uint8)
        if x.shape[1] == 3:
            found = np.stack([_compressed(image.transpose(1, 2, 0), quality).transpose(2, 0, 1) for image in pixels])
        else:
            found = np.stack([np.stack([_compressed(plane, quality) for plane in image]) for image in pixels])
        return tensor_like(found / 255.0, x)


def _compressed(image: np.ndarray, quality: int) -> np.ndarray:
    file = BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))
