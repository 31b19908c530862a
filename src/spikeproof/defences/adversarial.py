"""Adversarial training: cross-entropy on images that an attack has moved (Madry et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional as F

from spikeproof.errors import UsageError
from spikeproof.tensors import fold, integers
from spikeproof.types import Craft, Knob, Rule, VictimLike

__all__ = ["Adversarial"]


@dataclass(frozen=True)
class Adversarial:
    """share * CE(f(x'), y) + (1 - share) * CE(f(x), y), x' from `training_attack` within `training_threat`.

    share in (0,1]; 1 trains on attacked images only, as the SNN literature does (eps 2/255 there, FGSM or PGD of 2
    steps; tested at 8/255). eps: 'fixed' is the threat's; with 'random' every image draws its own budget each epoch
    from 1/levels, 2/levels, ..., 1 of it. Random budgets are inspired by SNN-RAT, whose paper speaks of several
    neighbourhoods, and whose released code has one fixed eps. FGSM at a large eps overfits to itself ("catastrophic
    overfitting"); a random start, more steps, or recipe.select: robust help.
    """

    KNOB: ClassVar[Knob] = Knob("training_threat.eps", ("2/255", "4/255", "8/255", "16/255", "32/255"))

    share: float = 1.0
    eps: Literal["fixed", "random"] = "fixed"
    levels: int = 4

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UsageError("share in (0,1]", self.share, mend="the vanilla defence is share 0")
        if self.eps not in ("fixed", "random") or self.levels < 1:
            got = f"eps={self.eps!r}, levels={self.levels}"
            raise UsageError("eps 'fixed' or 'random', and levels >= 1", got, mend="set training_threat.eps")

    def __call__(self, victim: VictimLike, x: Tensor, y: Tensor, rule: Rule, keys: Tensor, craft: Craft) -> Tensor:
        loss = self.share * F.cross_entropy(victim(self._moved(x, y, keys, craft), rule, keys), y)
        if self.share < 1:
            loss = loss + (1 - self.share) * F.cross_entropy(victim(x, rule, keys), y)
        return loss

    def _moved(self, x: Tensor, y: Tensor, keys: Tensor, craft: Craft) -> Tensor:
        """Attacked images (B,C,H,W)."""
        if self.eps == "fixed":
            return craft(x, y, keys)
        drawn, moved = integers(fold(keys, "eps"), 1, self.levels), x.clone()
        for level in sorted(set(drawn.tolist())):
            mine = drawn == level
            moved[mine] = craft(x[mine], y[mine], keys[mine], share=level / self.levels)
        return moved
