"""RGA: rate gradient approximation; the slope of a piecewise-linear rate curve at the mean current."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spikeproof.errors import UsageError
from spikeproof.neurons import Stepwise
from spikeproof.tensors import exact, graft
from spikeproof.types import Neuron

__all__ = ["RGA"]


@dataclass(frozen=True)
class RGA:
    """dL/dI[t] = dL/ds[t] * phi'(mean over t of I[t]), no recursion in time (Bu et al., CVPR 2023).

    For u = a v + b I, the current in units of the charge is c = b I, and phi runs through (0, 0), the knee
    ((1 - a) theta, low (1 - a) theta), below which a constant current never fires, and (high theta, 1). theta is the
    threshold above rest. phi' = b low up to the knee, b times the upper slope up to high theta, else exactly 0. Written
    for the decayed-input LIF too, whose knee is theta / b in I; a neuron without leak has its knee at 0.
    """

    low: float = 0.2
    high: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.low < 1 or not self.high > 1:
            raise UsageError("low in [0,1) and high > 1", f"low={self.low}, high={self.high}")

    def slope(self, neuron: Stepwise, mean: Tensor) -> Tensor:
        """phi' at the mean input current (B,*), per unit of current."""
        keep, gain = neuron.gains()
        theta = neuron.v_threshold - neuron.v_rest
        knee, end = (1.0 - keep) * theta, self.high * theta
        upper = (1.0 - self.low * knee) / (end - knee)
        current = gain * mean
        lower = torch.full_like(current, self.low if keep < 1 else upper)
        slope = torch.where(current <= knee, lower, torch.full_like(current, upper))
        return gain * slope * ((current >= 0) & (current <= end)).to(current.dtype)

    def __call__(self, neuron: Neuron, currents: Tensor, site: str) -> Tensor:
        """Currents (T,B,*) -> exact spikes (T,B,*). Raises UsageError for a neuron whose charge it does not know."""
        if not isinstance(neuron, Stepwise):
            raise UsageError("a neuron with a known linear charge for RGA", f"{neuron} at {site}")
        spikes = exact(neuron, currents.detach(), site)
        return graft(spikes, self.slope(neuron, currents.detach().mean(0)) * currents)
