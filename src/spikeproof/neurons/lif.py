"""LIF: integrate and fire with a fixed leak."""

from __future__ import annotations

import math

from torch import Tensor

from spikeproof.errors import UsageError
from spikeproof.native import Charge, Membrane
from spikeproof.neurons._stepwise import Stepwise

__all__ = ["LIF"]


class LIF(Stepwise):
    """u = v + (x - (v - v_rest)) / tau, or with decay_input=False u = v - (v - v_rest) / tau + x.

    tau > 1 is the membrane's time constant in steps (SpikingJelly's convention). The "gain 1" LIF of RAT and RGA with
    leak lambda is tau = 1 / (1 - lambda), decay_input=False.
    """

    def __init__(
        self, *, tau: float = 2.0, decay_input: bool = True, v_threshold: float = 1.0, v_reset: float | None = 0.0
    ) -> None:
        super().__init__(v_threshold=v_threshold, v_reset=v_reset)
        if not 1 < tau < math.inf:
            raise UsageError("tau > 1", tau, mend="tau = 1 keeps no past; IF has no leak")
        self.tau = tau
        self.decay_input = decay_input

    def gains(self) -> tuple[float, float]:
        return 1.0 - 1.0 / self.tau, 1.0 / self.tau if self.decay_input else 1.0

    def membrane(self) -> Membrane:
        form: Charge = "leak_div" if self.decay_input else "leak_div_input"
        return Membrane(form, self.tau, self.v_threshold, self.v_reset)

    def charge(self, v: Tensor, x: Tensor) -> Tensor:
        if self.decay_input:
            return v + (x - (v - self.v_rest)) / self.tau
        return v - (v - self.v_rest) / self.tau + x

    def extra_repr(self) -> str:
        return f"tau={self.tau}, decay_input={self.decay_input}, {super().extra_repr()}"
