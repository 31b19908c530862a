"""ATan surrogate: derivative (alpha/2) / (1 + (pi alpha x / 2)^2), wide tails, never exactly zero."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spikeproof.rules._surrogate import Surrogate

__all__ = ["ATan"]


@dataclass(frozen=True, kw_only=True)
class ATan(Surrogate):
    """The surrogate of the paper and of SpikingJelly's examples, alpha 2 (Fang et al., ICCV 2021)."""

    kind: ClassVar[str | None] = "atan"

    alpha: float = 2.0

    def primitive(self, x: Tensor) -> Tensor:
        return torch.atan(x * (math.pi / 2.0 * self.alpha)) / math.pi + 0.5

    def derivative(self, x: Tensor) -> Tensor:
        return (self.alpha / 2.0) / (1.0 + (x * (math.pi / 2.0 * self.alpha)).square())

    def mass_radius(self, mass: float) -> float:
        return 2.0 / math.pi * math.tan(math.pi / 2.0 * mass)
