"""PDSG: a Gaussian surrogate as wide as the membrane potentials are spread, its peak above the threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spikeproof.tensors import graft, heaviside
from spikeproof.types import Neuron

__all__ = ["PDSG"]


@dataclass(frozen=True, kw_only=True)
class PDSG:
    """h(x) = normal density at x with mean sigma/2 and deviation sigma; full recursion in time (CVPR 2025, 2503.03272).

    sigma at step t: the unbiased deviation of the layer's membrane potentials at steps 1..t. The released code takes it
    over the batch, so that an image's gradient depends on its neighbours; here it is *per image*, over time and space
    and one for each channel of a map, over time for each neuron of a vector. Where there is one value only, or no
    spread, sigma is 1.
    """

    through_reset: bool = False

    def __call__(self, neuron: Neuron, currents: Tensor, site: str) -> Tensor:
        """Currents (T,B,*) -> exact spikes (T,B,*)."""
        space = tuple(range(2, currents.dim() - 1))  # of one step (B,C,...)
        cells = math.prod(currents.shape[3:])
        total = torch.zeros((), dtype=torch.float64, device=currents.device)
        squares = torch.zeros((), dtype=torch.float64, device=currents.device)

        def fire(height: Tensor, step: int) -> Tensor:
            nonlocal total, squares
            u = height.detach().double()
            total = total + (u.sum(space, keepdim=True) if space else u)
            squares = squares + (u.square().sum(space, keepdim=True) if space else u.square())
            n = cells * (step + 1)
            variance = (squares - total.square() / n).clamp(min=0.0) / max(n - 1, 1)
            # What is left of equal values after the subtraction is rounding, not spread.
            spread = variance > 1e-12 * (squares / n).clamp(min=1e-30)
            sigma = torch.where(spread, variance, 1.0).sqrt().to(height.dtype)
            smooth = 0.5 * (1.0 + torch.erf((height - sigma / 2) / (math.sqrt(2.0) * sigma)))
            return graft(heaviside(height), smooth)

        return neuron.run(currents, fire, through_reset=self.through_reset)
