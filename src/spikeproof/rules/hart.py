"""HART: the surrogate's gradient averaged over time, the chain between steps cut."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from spikeproof.errors import UsageError
from spikeproof.tensors import graft, heaviside
from spikeproof.types import Neuron

__all__ = ["HART"]


@dataclass(frozen=True)
class HART:
    """dL/dI[t] = mean over k of dL/ds[k] h(u[k] - v_threshold) du/dI, h(x) = max(0, width - |x|) / width^2.

    Hao et al., "Threaten Spiking Neural Networks through Combining Rate and Temporal Information" (ICLR 2024): the
    width is chosen per network to make the attack strongest. The gradient is the same for every step.
    """

    width: float = 1.0

    def __post_init__(self) -> None:
        if not self.width > 0:
            raise UsageError("a width > 0", self.width)

    def __call__(self, neuron: Neuron, currents: Tensor, site: str) -> Tensor:
        """Currents (T,B,*) -> exact spikes (T,B,*)."""

        def fire(height: Tensor, step: int) -> Tensor:
            y = (height / self.width).clamp(-1.0, 1.0)
            return graft(heaviside(height), y - 0.5 * y * y.abs())

        # Each step's gradient goes to the mean over time, which hands every step its equal share.
        shared = graft(currents, currents.mean(0, keepdim=True).expand_as(currents))
        return neuron.run(shared, fire, through_time=False)
