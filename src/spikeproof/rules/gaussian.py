"""Gaussian surrogate: derivative alpha / sqrt(2 pi) * exp(-(alpha x)^2 / 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import ClassVar

import torch
from torch import Tensor

from spikeproof.rules._surrogate import Surrogate

__all__ = ["Gaussian"]


@dataclass(frozen=True, kw_only=True)
class Gaussian(Surrogate):
    """A bell of width 1/alpha, area 1; underflows to exact zeros in float32 near alpha |x| = 14."""

    kind: ClassVar[str | None] = "gaussian"

    alpha: float = 2.0

    def primitive(self, x: Tensor) -> Tensor:
        return 0.5 * (1.0 + torch.erf(x * (self.alpha / math.sqrt(2.0))))

    def derivative(self, x: Tensor) -> Tensor:
        return torch.exp(-0.5 * (self.alpha * x).square()) * (self.alpha / math.sqrt(2.0 * math.pi))

    def mass_radius(self, mass: float) -> float:
        return NormalDist().inv_cdf((1.0 + mass) / 2.0)
