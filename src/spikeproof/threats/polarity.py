"""At most eps events of a grid of ones and zeros turned into the other polarity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spikeproof.errors import UsageError
from spikeproof.threats._moves import Moves, count, unless

__all__ = ["Polarity"]


@dataclass(frozen=True)
class Polarity(Moves):
    """At most eps events of a grid (B,T,2,H,W) of ones and zeros turned into the other polarity, where that is free."""

    norm: ClassVar[str] = "polarity"

    def gains(self, gradient: Tensor, x0: Tensor) -> Tensor:
        (off, on), (g_off, g_on) = _polarities(x0), _polarities(gradient)
        return torch.where(off != on, (g_on - g_off) * (off - on), float("-inf")).flatten(1)

    def _moved(self, way: Tensor, x0: Tensor) -> Tensor:
        return x0.flip(-3)

    def per_unit(self, values: Tensor) -> Tensor:
        return values.sum(-3).flatten(1)

    def _cells(self, units: Tensor, x0: Tensor) -> Tensor:
        one = x0.narrow(-3, 0, 1)
        return units.view_as(one).expand_as(x0)

    def distance(self, x: Tensor, x0: Tensor) -> Tensor:
        """How many events have turned, (B,); infinite where anything else has changed."""
        (off, on), (off0, on0) = _polarities(x), _polarities(x0)
        other = (off != off0) | (on != on0)
        return unless(other & ((off != on0) | (on != off0)), count(other, x0))


def _polarities(x: Tensor) -> tuple[Tensor, Tensor]:
    """Grids (B,*,2,H,W) -> the cells of both polarities, (B,*,H,W) each."""
    if x.dim() < 4 or x.shape[-3] != 2:
        raise UsageError("grids (B,T,2,H,W), of two polarities, for polarity", f"shape {tuple(x.shape)}")
    return x.select(-3, 0), x.select(-3, 1)
