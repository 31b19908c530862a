"""At most eps events added to a grid of ones and zeros."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spikeproof.threats._moves import Moves, count, unless

__all__ = ["Insert"]


@dataclass(frozen=True)
class Insert(Moves):
    """At most eps events added to a grid of ones and zeros; none is taken away."""

    norm: ClassVar[str] = "insert"

    def gains(self, gradient: Tensor, x0: Tensor) -> Tensor:
        return torch.where(x0 == 0, gradient, float("-inf")).flatten(1)

    def _moved(self, way: Tensor, x0: Tensor) -> Tensor:
        return torch.ones_like(x0)

    def distance(self, x: Tensor, x0: Tensor) -> Tensor:
        """How many events are new, (B,); infinite where one is gone."""
        return unless(x < x0, count(x != x0, x0))
