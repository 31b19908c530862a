"""DLIF: a LIF whose input is weighted by a learned number, one a layer and time step."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spikeproof.errors import UsageError
from spikeproof.neurons._paced import Paced

__all__ = ["DLIF"]


class DLIF(Paced):
    """u = leak (v - v_rest) + v_rest + pace[t] x, pace starting at 1; leak in (0,1], hard reset by default.

    Ding et al., "Robust Stable Spiking Neural Networks" (ICML 2024): leak 0.99. On its own it buys nothing in published
    tables; its training is the defence `mppd`.
    """

    def __init__(
        self, *, leak: float = 0.99, steps: int = 10, v_threshold: float = 1.0, v_reset: float | None = 0.0
    ) -> None:
        super().__init__(steps=steps, v_threshold=v_threshold, v_reset=v_reset)
        if not 0 < leak <= 1 or not math.isfinite(leak):
            raise UsageError("a leak in (0,1]", leak, mend="1 keeps everything, as IF does")
        self.leak = leak

    def paced(self, v: Tensor, x: Tensor, pace: Tensor) -> Tensor:
        return self.leak * (v - self.v_rest) + self.v_rest + pace * x

    def even(self) -> DLIF:
        """A DLIF of the same leak whose weights are 1."""
        plain = DLIF(leak=self.leak, steps=self.steps, v_threshold=self.v_threshold, v_reset=self.v_reset)
        plain.pace = nn.Parameter(torch.ones_like(self.pace), requires_grad=False)
        return plain

    def gains(self) -> tuple[float, float]:
        """The leak, and the mean weight over the steps, for rules that look at the rate alone."""
        return self.leak, float(self.pace.detach().mean())

    def extra_repr(self) -> str:
        return f"leak={self.leak}, {super().extra_repr()}"
