"""At most eps cells of a grid of ones and zeros changed: events added or taken away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from spikeproof.threats._moves import Moves, count

__all__ = ["Flips"]


@dataclass(frozen=True)
class Flips(Moves):
    """At most eps cells of a grid of ones and zeros changed: events added or taken away (L0)."""

    norm: ClassVar[str] = "flips"
    reaches_all: ClassVar[bool] = True

    def gains(self, gradient: Tensor, x0: Tensor) -> Tensor:
        return (gradient * (1.0 - 2.0 * x0)).flatten(1)

    def _moved(self, way: Tensor, x0: Tensor) -> Tensor:
        return 1.0 - x0

    def distance(self, x: Tensor, x0: Tensor) -> Tensor:
        """How many cells differ, (B,)."""
        return count(x != x0, x0)
