"""At most eps cells of a grid of counts changed, each by one event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spikeproof import parts
from spikeproof.threats._moves import Moves, count, unless
from spikeproof.types import Grid

__all__ = ["Counts"]


@dataclass(frozen=True)
class Counts(Moves):
    """At most eps cells of a grid of counts changed, each by one event, and none below 0 or above 255."""

    surface: str = "counts"

    norm: ClassVar[str] = "counts"
    counted: ClassVar[bool] = True

    @property
    def _most(self) -> int:
        """Events that a cell can hold: what the data divide a count by."""
        surface = parts.surface(self.surface)
        assert isinstance(surface, Grid)  # or it had been refused
        return round(1.0 / surface.quantum)

    def gains(self, gradient: Tensor, x0: Tensor) -> Tensor:
        low, high = self.box
        room = torch.where(gradient > 0, x0 < high, x0 > low)
        return torch.where(room, gradient.abs(), float("-inf")).flatten(1)

    def _moved(self, way: Tensor, x0: Tensor) -> Tensor:
        return ((x0 * self._most).round() + way.sign()) / self._most

    def _towards(self, x: Tensor, x0: Tensor) -> Tensor:
        # One event nearer to x saves (s^2 - (s - 1)^2) = 2 s - 1, where s events are between.
        events = (x - x0) * self._most
        return events.sign() * (2.0 * events.abs() - 1.0).clamp(min=0.0)

    def distance(self, x: Tensor, x0: Tensor) -> Tensor:
        """How many cells differ, (B,); infinite where one does by more than an event."""
        return unless((x - x0).abs() * self._most > 1.5, count(x != x0, x0))
