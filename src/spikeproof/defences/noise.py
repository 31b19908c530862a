"""Noise augmentation: the control for every defence that moves images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from spikeproof.defences._added import Added
from spikeproof.errors import UsageError
from spikeproof.tensors import fold, normal
from spikeproof.types import Craft, Knob, Rule, VictimLike

__all__ = ["Noise"]


@dataclass(frozen=True, kw_only=True)
class Noise(Added):
    """The same training on x + sigma N(0,1), clipped to [0,1]: fresh noise from each image's key every epoch."""

    KNOB: ClassVar[Knob] = Knob("sigma", (0.02, 0.05, 0.1, 0.2, 0.4))

    sigma: float = 8 / 255

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < math.inf:
            raise UsageError("a finite sigma >= 0", self.sigma)

    def __call__(self, victim: VictimLike, x: Tensor, y: Tensor, rule: Rule, keys: Tensor, craft: Craft) -> Tensor:
        noisy = (x + self.sigma * normal(fold(keys, "noise"), x.shape[1:]).to(x)).clamp(0.0, 1.0)
        return self.base_loss(victim, noisy, y, rule, keys, craft)
