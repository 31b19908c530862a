"""Events at other times, at most eps of them, however far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from spikeproof.retiming import most_swapped
from spikeproof.threats._retime import Retime

__all__ = ["RetimeB0"]


@dataclass(frozen=True)
class RetimeB0(Retime):
    """At most eps events are at another time, however far."""

    norm: ClassVar[str] = "retime_b0"

    def line_costs(self, lines: Tensor, clean: Tensor) -> Tensor:
        return (lines < clean).sum(1).to(clean)

    def one_move(self, bins: Tensor) -> Tensor:
        return (bins > 0).to(bins)

    def _best(self, gradient: Tensor, x0: Tensor) -> Tensor:
        return most_swapped(gradient, x0, min(int(self.eps), x0.shape[1:].numel()))
