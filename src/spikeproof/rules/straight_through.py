"""Straight-through: the spike's derivative is 1 everywhere."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from spikeproof.tensors import graft, heaviside
from spikeproof.types import Neuron

__all__ = ["StraightThrough"]


@dataclass(frozen=True, kw_only=True)
class StraightThrough:
    """Bengio et al. 2013: no zero anywhere, no sharpness to choose, and no word on how far the threshold is."""

    through_time: bool = True
    through_reset: bool = False

    def __call__(self, neuron: Neuron, currents: Tensor, site: str) -> Tensor:
        """Currents (T,B,*) -> exact spikes (T,B,*)."""

        def fire(height: Tensor, step: int) -> Tensor:
            return graft(heaviside(height), height)

        return neuron.run(currents, fire, through_time=self.through_time, through_reset=self.through_reset)
