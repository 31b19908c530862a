"""Events at other times, eps bins away in all at most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from spikeproof.retiming import best_moved, fewest
from spikeproof.threats._retime import Retime

__all__ = ["RetimeB1"]


@dataclass(frozen=True)
class RetimeB1(Retime):
    """The moves of all events add up to eps bins at most."""

    norm: ClassVar[str] = "retime_b1"
    unit: ClassVar[str] = "bins"

    def line_costs(self, lines: Tensor, clean: Tensor) -> Tensor:
        return fewest(lines, clean)

    def _best(self, gradient: Tensor, x0: Tensor) -> Tensor:
        return best_moved(gradient, x0, int(self.eps))
