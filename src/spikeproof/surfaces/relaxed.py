"""Frames of events as if they were images: any value in [0,1] a cell, which no camera can be made to say."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from spikeproof.surfaces._unit import UnitBox
from spikeproof.types import Rule, VictimLike

__all__ = ["Relaxed"]


@dataclass(frozen=True)
class Relaxed(UnitBox):
    """A point is what the victim takes. As 'pixels' in all but the name, which stands wherever its numbers do: an
    accuracy under L-inf or L2 on frames is a bound on nothing that happens to events."""

    @property
    def before_encoder(self) -> bool:
        return True

    def start(self, victim: VictimLike, x: Tensor, keys: Tensor) -> Tensor:
        return x.detach()

    def logits(self, victim: VictimLike, point: Tensor, rule: Rule, keys: Tensor) -> Tensor:
        return victim(point, rule, keys)
