"""The image itself, through the encoder: the attacker who owns the picture."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from spikeproof.surfaces._unit import UnitBox
from spikeproof.types import Rule, VictimLike

__all__ = ["Pixels"]


@dataclass(frozen=True)
class Pixels(UnitBox):
    """A point is what the victim takes, (B,C,H,W) or (B,T,C,H,W): images, and eps is in units of a pixel's range."""

    @property
    def before_encoder(self) -> bool:
        return True

    def start(self, victim: VictimLike, x: Tensor, keys: Tensor) -> Tensor:
        return x.detach()

    def logits(self, victim: VictimLike, point: Tensor, rule: Rule, keys: Tensor) -> Tensor:
        return victim(point, rule, keys)
