"""Triangle surrogate: derivative max(0, alpha - alpha^2 |x|), exactly zero from |x| = 1/alpha on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from spikeproof.rules._surrogate import Surrogate

__all__ = ["Triangle"]


@dataclass(frozen=True, kw_only=True)
class Triangle(Surrogate):
    """The shape of SNN-RAT, RGA, HART and SR (gamma = 1/alpha = 1). Its compact support makes exact zeros."""

    kind: ClassVar[str | None] = "triangle"

    alpha: float = 1.0

    def primitive(self, x: Tensor) -> Tensor:
        y = (self.alpha * x).clamp(-1.0, 1.0)
        return 0.5 + y - 0.5 * y * y.abs()

    def derivative(self, x: Tensor) -> Tensor:
        return self.alpha * (1.0 - self.alpha * x.abs()).clamp(min=0.0)

    def mass_radius(self, mass: float) -> float:
        return 1.0 - math.sqrt(1.0 - mass)
