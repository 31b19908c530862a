"""Sigmoid surrogate: derivative alpha * sigma(alpha x) * sigma(-alpha x)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spikeproof.rules._surrogate import Surrogate

__all__ = ["Sigmoid"]


@dataclass(frozen=True, kw_only=True)
class Sigmoid(Surrogate):
    """SpikingJelly's default shape, alpha 4.

    torch differentiates sigma as sigma (1 - sigma), which in float32 is exactly 0 once alpha x >= 16.7: a dead zone
    for strongly active neurons that the formula does not have. So the upper half is written as 1 - sigma(-alpha x).
    """

    kind: ClassVar[str | None] = "sigmoid"

    alpha: float = 4.0

    def primitive(self, x: Tensor) -> Tensor:
        scaled = self.alpha * x
        return torch.where(scaled > 0, 1.0 - torch.sigmoid(-scaled), torch.sigmoid(scaled))

    def derivative(self, x: Tensor) -> Tensor:
        return self.alpha * torch.sigmoid(self.alpha * x) * torch.sigmoid(-self.alpha * x)

    def mass_radius(self, mass: float) -> float:
        return 2.0 * math.atanh(mass)
