"""Events at other times, none more than eps bins away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from spikeproof.retiming import best_within, longest, surplus_bounds
from spikeproof.threats._retime import Retime

__all__ = ["RetimeBinf"]


@dataclass(frozen=True)
class RetimeBinf(Retime):
    """No event moves by more than eps bins."""

    norm: ClassVar[str] = "retime_binf"
    unit: ClassVar[str] = "bins"
    adds_up: ClassVar[bool] = False

    def line_costs(self, lines: Tensor, clean: Tensor) -> Tensor:
        return longest(lines, clean)

    def room(self, lines: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
        low, high = surplus_bounds(clean, int(self.eps))
        surplus = (lines - clean).cumsum(1)
        return surplus < high, surplus > low

    def _best(self, gradient: Tensor, x0: Tensor) -> Tensor:
        return best_within(gradient, x0, int(self.eps))
