"""The tensor behind the encoder, each step perturbed on its own: the paper's threat, usually much weaker."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from spikeproof.surfaces._unit import UnitBox
from spikeproof.types import Rule, VictimLike

__all__ = ["Encoded"]


@dataclass(frozen=True)
class Encoded(UnitBox):
    """A point is (B,T,C,H,W), images first, as attacks and threats take them; its eps has no meaning in pixels."""

    @property
    def before_encoder(self) -> bool:
        return False

    def start(self, victim: VictimLike, x: Tensor, keys: Tensor) -> Tensor:
        return victim.encode(x, keys).transpose(0, 1).detach()

    def logits(self, victim: VictimLike, point: Tensor, rule: Rule, keys: Tensor) -> Tensor:
        return victim.classify(point.transpose(0, 1), rule)
