"""Rectangle surrogate: derivative alpha/2 for |x| < 1/alpha, else exactly zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from spikeproof.rules._surrogate import Surrogate

__all__ = ["Rectangle"]


@dataclass(frozen=True, kw_only=True)
class Rectangle(Surrogate):
    """The straight-through window (Wu et al., STBP 2018). Its compact support makes exact zeros."""

    kind: ClassVar[str | None] = "rectangle"

    alpha: float = 2.0

    def primitive(self, x: Tensor) -> Tensor:
        # hardtanh, unlike clamp, has gradient 0 at the ends themselves: the window is open, as in the formula.
        return 0.5 + 0.5 * F.hardtanh(self.alpha * x)

    def derivative(self, x: Tensor) -> Tensor:
        return ((self.alpha * x).abs() < 1.0).to(x.dtype) * (self.alpha / 2.0)

    def mass_radius(self, mass: float) -> float:
        return mass
