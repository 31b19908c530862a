"""Backpropagation through time with a fixed surrogate: what the surrogate shapes share (STBP)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from spikeproof.tensors import graft, heaviside
from spikeproof.types import Neuron, UsageError, refusal

__all__ = ["Surrogate"]


@dataclass(frozen=True, kw_only=True)
class Surrogate(ABC):
    """Spikes are exact; their derivative is that of a smooth step, the `primitive`.

    alpha > 0: sharpness. through_time: gradients pass between time steps; through_reset: gradients pass through the
    reset's spike (the opposite of SpikingJelly's `detach_reset`).
    """

    alpha: float
    through_time: bool = True
    through_reset: bool = False

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise UsageError(refusal("a sharpness alpha > 0", self.alpha))

    @abstractmethod
    def primitive(self, x: Tensor) -> Tensor:
        """The smooth step, 0 far below the threshold, 1/2 at it, 1 far above; same shape as x. Must be bounded."""

    def __call__(self, neuron: Neuron, currents: Tensor, site: str) -> Tensor:
        """Currents (T,B,*) -> exact spikes (T,B,*); the site does not matter to a fixed surrogate."""

        def fire(height: Tensor, step: int) -> Tensor:
            spikes = heaviside(height)
            # Without a graph the proxy's value would be subtracted from itself: skip the work.
            return graft(spikes, self.primitive(height)) if height.requires_grad else spikes

        return neuron.run(currents, fire, through_time=self.through_time, through_reset=self.through_reset)

