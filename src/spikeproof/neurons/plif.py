"""PLIF: a LIF whose leak is learned, one per layer."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spikeproof.errors import UsageError
from spikeproof.native import Charge, Membrane
from spikeproof.neurons._stepwise import Stepwise

__all__ = ["PLIF"]


class PLIF(Stepwise):
    """u = v + (x - (v - v_rest)) * sigmoid(w), or with decay_input=False u = v - (v - v_rest) * sigmoid(w) + x.

    Fang et al., "Incorporating Learnable Membrane Time Constant to Enhance Learning of Spiking Neural Networks"
    (ICCV 2021): 1/tau = sigmoid(w), started at init_tau > 1. The parameter `w` has SpikingJelly's name.
    """

    w: nn.Parameter

    def __init__(
        self, *, init_tau: float = 2.0, decay_input: bool = True, v_threshold: float = 1.0, v_reset: float | None = 0.0
    ) -> None:
        super().__init__(v_threshold=v_threshold, v_reset=v_reset)
        if not 1 < init_tau < math.inf:
            raise UsageError("init_tau > 1", init_tau, mend="1/tau = sigmoid(w) is below 1 for every w")
        self.decay_input = decay_input
        self.w = nn.Parameter(torch.tensor(-math.log(init_tau - 1.0)))

    def gains(self) -> tuple[float, float]:
        share = float(self.w.detach().sigmoid())
        return 1.0 - share, share if self.decay_input else 1.0

    def membrane(self) -> Membrane:
        form: Charge = "leak_mul" if self.decay_input else "leak_mul_input"
        return Membrane(form, float(self.w.detach().sigmoid()), self.v_threshold, self.v_reset)

    def charge(self, v: Tensor, x: Tensor) -> Tensor:
        if self.decay_input:
            return v + (x - (v - self.v_rest)) * self.w.sigmoid()
        return v - (v - self.v_rest) * self.w.sigmoid() + x

    def extra_repr(self) -> str:
        return f"tau={1 / self.w.detach().sigmoid().item():.4g}, decay_input={self.decay_input}, {super().extra_repr()}"
