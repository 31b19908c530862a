"""What is added to a training: to that of another defence, or to cross-entropy on the clean images."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from spikeproof.types import AfterBackward, AfterStep, Craft, Defence, Rule, VictimLike

__all__ = ["Added"]


@dataclass(frozen=True, kw_only=True)
class Added:
    """base: the defence whose loss this one adds to; None is cross-entropy on clean images. Its hooks are passed on,
    and come before those of what is added."""

    base: Defence | None = None

    def base_loss(self, victim: VictimLike, x: Tensor, y: Tensor, rule: Rule, keys: Tensor, craft: Craft) -> Tensor:
        """The loss that is added to."""
        if self.base is None:
            return F.cross_entropy(victim(x, rule, keys), y)
        return self.base(victim, x, y, rule, keys, craft)

    def __call__(self, victim: VictimLike, x: Tensor, y: Tensor, rule: Rule, keys: Tensor, craft: Craft) -> Tensor:
        return self.base_loss(victim, x, y, rule, keys, craft)

    def after_backward(self, victim: nn.Module) -> None:
        if isinstance(self.base, AfterBackward):
            self.base.after_backward(victim)

    def after_step(self, victim: nn.Module) -> None:
        if isinstance(self.base, AfterStep):
            self.base.after_step(victim)
