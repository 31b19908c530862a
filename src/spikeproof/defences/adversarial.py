"""Adversarial training: cross-entropy on images that an attack has moved (Madry et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from spikeproof.types import Craft, Rule, UsageError, VictimLike, refusal

__all__ = ["Adversarial"]


@dataclass(frozen=True)
class Adversarial:
    """share * CE(f(x'), y) + (1 - share) * CE(f(x), y), x' from `training_attack` within `training_threat`.

    share in (0,1]; 1 trains on attacked images only, as the SNN literature does.
    """

    share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UsageError(refusal("share in (0,1]", self.share, mend="the vanilla defence is share 0"))

    def __call__(self, victim: VictimLike, x: Tensor, y: Tensor, rule: Rule, keys: Tensor, craft: Craft) -> Tensor:
        loss = self.share * F.cross_entropy(victim(craft(x, y, keys), rule, keys), y)
        if self.share < 1:
            loss = loss + (1 - self.share) * F.cross_entropy(victim(x, rule, keys), y)
        return loss
