"""Backpropagation through time with a fixed surrogate: what the surrogate shapes share (STBP)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spikeproof.errors import UsageError
from spikeproof.neurons import Stepwise
from spikeproof.rules._fused import fused_scan
from spikeproof.tensors import graft, heaviside
from spikeproof.types import Neuron

__all__ = ["Surrogate"]


@dataclass(frozen=True, kw_only=True)
class Surrogate(ABC):
    """Spikes are exact; their derivative is that of a smooth step, the `primitive`.

    alpha > 0: sharpness. through_time: gradients pass between time steps; through_reset: gradients pass through the
    reset's spike (the opposite of SpikingJelly's `detach_reset`). fused: take the hand-derived backward where the
    neuron learns nothing itself; the same numbers to rounding, several times fewer operations, but no second
    derivative (create_graph=True is refused). False is the plain form, which has everything.
    """

    kind: ClassVar[str | None] = None  # the name by which the scan in C knows the shape; a user's own has none

    alpha: float
    through_time: bool = True
    through_reset: bool = False
    fused: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.alpha < math.inf:
            raise UsageError("a sharpness alpha > 0", self.alpha)

    @abstractmethod
    def primitive(self, x: Tensor) -> Tensor:
        """The smooth step, 0 far below the threshold, 1/2 at it, 1 far above; same shape as x. Must be bounded."""

    @abstractmethod
    def derivative(self, x: Tensor) -> Tensor:
        """The primitive's derivative in closed form; same shape as x."""

    @abstractmethod
    def mass_radius(self, mass: float) -> float:
        """alpha |x| at which [-|x|, |x|] holds the share `mass` in (0,1) of the derivative's area."""

    def __call__(self, neuron: Neuron, currents: Tensor, site: str) -> Tensor:
        """Currents (T,B,*) -> exact spikes (T,B,*); the site does not matter to a fixed surrogate."""
        differentiated = torch.is_grad_enabled() and currents.requires_grad
        if self.fused and differentiated and isinstance(neuron, Stepwise) and not neuron.learns():
            return fused_scan(neuron, neuron.gains(), self, currents)

        def fire(height: Tensor, step: int) -> Tensor:
            spikes = heaviside(height)
            # Without a graph the proxy's value would be subtracted from itself: skip the work.
            return graft(spikes, self.primitive(height)) if height.requires_grad else spikes

        return neuron.run(currents, fire, through_time=self.through_time, through_reset=self.through_reset)
