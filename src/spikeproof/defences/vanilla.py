"""No defence: cross-entropy on the clean images."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from spikeproof.types import Craft, Rule, VictimLike

__all__ = ["Vanilla"]


@dataclass(frozen=True)
class Vanilla:
    """mean over the batch of CE(f(x), y)."""

    def __call__(self, victim: VictimLike, x: Tensor, y: Tensor, rule: Rule, keys: Tensor, craft: Craft) -> Tensor:
        return F.cross_entropy(victim(x, rule, keys), y)
