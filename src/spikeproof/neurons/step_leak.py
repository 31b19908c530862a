"""FEEL's neuron: a leak that is learned, one a layer and time step."""

from __future__ import annotations

from torch import Tensor

from spikeproof.neurons._paced import Paced

__all__ = ["StepLeak"]


class StepLeak(Paced):
    """u = pace[t] (v - v_rest) + v_rest + x, pace starting at 1, where it is the IF neuron; hard reset by default.

    "FEEL-SNN" (NeurIPS 2024) learns a leak per neuron and step, (T,C,H,W) a layer. Here it is one per layer and step:
    a neuron is built before any image is seen, and does not know the shape of its maps; and so the weights fit images
    of every size.
    """

    def paced(self, v: Tensor, x: Tensor, pace: Tensor) -> Tensor:
        return pace * (v - self.v_rest) + self.v_rest + x

    def gains(self) -> tuple[float, float]:
        """The mean leak over the steps, for rules that look at the rate alone."""
        return float(self.pace.detach().mean()), 1.0
