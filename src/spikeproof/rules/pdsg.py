"""PDSG: a Gaussian surrogate as wide as the membrane potentials are spread, its peak above the threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spikeproof.native.moments import moments
from spikeproof.neurons import Stepwise
from spikeproof.rules._fused import fused_scan
from spikeproof.tensors import graft, heaviside
from spikeproof.types import Neuron

__all__ = ["PDSG"]


@dataclass(frozen=True, kw_only=True)
class PDSG:
    """h(x) = normal density at x with mean sigma/2 and deviation sigma; full recursion in time (CVPR 2025, 2503.03272).

    sigma at step t: the unbiased deviation of the layer's membrane potentials at steps 1..t. The released code takes it
    over the batch, so that an image's gradient depends on its neighbours; here it is *per image*, over time and space
    and one for each channel of a map, over time for each neuron of a vector. Where there is one value only, or no
    spread, sigma is 1. fused: as of a `Surrogate`.
    """

    through_reset: bool = False
    fused: bool = True
    through_time: ClassVar[bool] = True

    def __call__(self, neuron: Neuron, currents: Tensor, site: str) -> Tensor:
        """Currents (T,B,*) -> exact spikes (T,B,*)."""
        differentiated = torch.is_grad_enabled() and currents.requires_grad
        if self.fused and differentiated and isinstance(neuron, Stepwise) and not neuron.learns():
            return fused_scan(neuron, neuron.gains(), self, currents)
        totals = squares = torch.zeros((), dtype=torch.float64, device=currents.device)

        def fire(height: Tensor, step: int) -> Tensor:
            nonlocal totals, squares
            total, square = _sums(height.detach()[None])
            totals, squares = totals + total, squares + square
            sigma = _sigma(totals, squares, torch.full_like(totals, step + 1), height)[0]
            smooth = 0.5 * (1.0 + torch.erf((height - sigma / 2) / (math.sqrt(2.0) * sigma)))
            return graft(heaviside(height), smooth)

        return neuron.run(currents, fire, through_reset=self.through_reset)

    def derivative(self, x: Tensor) -> Tensor:
        """Heights (T,B,*) of all steps -> the density at each, as wide as the heights until then are spread."""
        totals, squares = (part.cumsum(0) for part in _sums(x))
        steps = torch.arange(1, len(x) + 1, dtype=totals.dtype, device=x.device).view(-1, *[1] * (x.dim() - 1))
        sigma = _sigma(totals, squares, steps, x[0])
        return ((x / sigma - 0.5).square_() * -0.5).exp_().div_(math.sqrt(2 * math.pi) * sigma)


def _sums(heights: Tensor) -> tuple[Tensor, Tensor]:
    """Of each step (T,B,*): the sum of the values that belong together, and of their squares, in double precision."""
    space = tuple(range(3, heights.dim()))  # of (T,B,C,...)
    if space and (in_c := moments(heights.detach().flatten(0, 1))) is not None:
        total, square = (part.view(*heights.shape[:3], *[1] * len(space)) for part in in_c)
        return total, square
    u = heights.double()
    return (u.sum(space, keepdim=True), u.square().sum(space, keepdim=True)) if space else (u, u.square())


def _sigma(totals: Tensor, squares: Tensor, steps: Tensor, height: Tensor) -> Tensor:
    """Unbiased deviations from the sums over so many steps, of heights like `height` (B,*)."""
    n = steps * math.prod(height.shape[2:])
    variance = (squares - totals.square() / n).clamp(min=0.0) / (n - 1).clamp(min=1.0)
    # What is left of equal values after the subtraction is rounding, not spread.
    spread = variance > 1e-12 * (squares / n).clamp(min=1e-30)
    return torch.where(spread, variance, 1.0).sqrt().to(height.dtype)
