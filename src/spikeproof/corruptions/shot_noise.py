"""Shot noise: light comes in photons."""

from __future__ import annotations

from dataclasses import dataclass

import scipy  # its stats take a second to import, and do so when they are first asked
from torch import Tensor

from spikeproof.corruptions._severity import AtSeverity, array, tensor_like
from spikeproof.tensors import uniform

__all__ = ["ShotNoise"]


@dataclass(frozen=True)
class ShotNoise(AtSeverity):
    """Poisson(c x) / c, clipped; c photons at white: 500, 250, 100, 75, 50."""

    def __call__(self, x: Tensor, keys: Tensor) -> Tensor:
        """Pixels (B,C,H,W) in [0,1], keys (B,) -> the same shape and range."""
        photons = self.pick((500, 250, 100, 75, 50))
        share = array(uniform(keys, x.shape[1:])) + 2.0**-25  # in (0,1): the quantile of 0 is no count
        return tensor_like(scipy.stats.poisson.ppf(share, photons * array(x)) / photons, x)
