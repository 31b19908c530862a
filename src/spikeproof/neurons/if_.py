"""IF: integrate and fire, no leak."""

from __future__ import annotations

from torch import Tensor

from spikeproof.native import Membrane
from spikeproof.neurons._stepwise import Stepwise

__all__ = ["IF"]


class IF(Stepwise):
    """u = v + x. The neuron of Luu et al. (arXiv 2509.23762), with v_threshold 1 and the hard reset to 0."""

    def gains(self) -> tuple[float, float]:
        return 1.0, 1.0

    def membrane(self) -> Membrane:
        return Membrane("add", 1.0, self.v_threshold, self.v_reset)

    def charge(self, v: Tensor, x: Tensor) -> Tensor:
        return v + x
