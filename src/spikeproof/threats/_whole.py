"""What threats of whole events have in common, on a grid of them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from torch import Tensor

from spikeproof import parts
from spikeproof.errors import UsageError
from spikeproof.tensors import sparse_sign
from spikeproof.threats._radius import radius
from spikeproof.types import Grid

__all__ = ["Whole"]


@dataclass(frozen=True)
class Whole(ABC):
    """A whole number of events, or of bins, on a grid of whole events."""

    eps: float
    surface: str = "events"

    unit: ClassVar[str] = "events"  # what eps is a number of
    counted: ClassVar[bool] = False  # on grids of counts, not of ones and zeros
    reaches_all: ClassVar[bool] = False
    norm: ClassVar[str]

    def __post_init__(self) -> None:
        eps = radius(self.eps)
        if eps != int(eps):
            raise UsageError(f"a whole number of {self.unit} for {self.norm}", repr(self.eps), mend="for example 20")
        object.__setattr__(self, "eps", eps)
        surface = parts.surface(str(self.surface))
        if not isinstance(surface, Grid) or (surface.quantum < 1) != self.counted:
            mend = f"set the surface to {'counts' if self.counted else 'events'!r}"
            raise UsageError(
                f"a grid of {'counts' if self.counted else 'events'} for {self.norm}", self.surface, mend=mend
            )

    @property
    def box(self) -> tuple[float, float]:
        """The least and the largest value of a cell."""
        return parts.surface(self.surface).box

    @abstractmethod
    def best(self, gradient: Tensor, x0: Tensor) -> Tensor:
        """The admissible point (B,*) of the largest sum of gradient (x - x0)."""

    def _towards(self, x: Tensor, x0: Tensor) -> Tensor:
        """A gradient whose best point is the admissible point nearest to x; all (B,*)."""
        # |x' - x|^2 is that of an empty grid less the sum of (2 x - 1) x', for x' of ones and zeros.
        return 2.0 * x - 1.0

    def project(self, x: Tensor, x0: Tensor) -> Tensor:
        """The nearest admissible point; where two are, the one with fewer moves, and of equal moves the first."""
        return self.best(self._towards(x, x0), x0)

    def ascend(self, gradient: Tensor) -> Tensor:
        """The steepest coordinate alone, by 1, all those that tie with it sharing that; zeros stay zeros."""
        return sparse_sign(gradient, 1)

    def scaled(self, share: float) -> Self:
        """The same with `share` >= 0 of its budget, rounded down."""
        return replace(self, eps=float(math.floor(share * self.eps + 1e-9)))  # a third of three is one
