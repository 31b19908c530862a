"""At most eps events taken away from a grid of ones and zeros."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spikeproof.threats._moves import Moves, count, unless

__all__ = ["Delete"]


@dataclass(frozen=True)
class Delete(Moves):
    """At most eps events taken away from a grid of ones and zeros; none is added."""

    norm: ClassVar[str] = "delete"

    def gains(self, gradient: Tensor, x0: Tensor) -> Tensor:
        return torch.where(x0 == 1, -gradient, float("-inf")).flatten(1)

    def _moved(self, way: Tensor, x0: Tensor) -> Tensor:
        return torch.zeros_like(x0)

    def distance(self, x: Tensor, x0: Tensor) -> Tensor:
        """How many events are gone, (B,); infinite where one is new."""
        return unless(x > x0, count(x != x0, x0))
