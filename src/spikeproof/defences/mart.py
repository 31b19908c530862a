"""MART: adversarial training that looks closer at images that are wrong when clean."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from spikeproof.defences._divergence import divergence
from spikeproof.errors import UsageError
from spikeproof.types import Craft, Knob, Rule, VictimLike

__all__ = ["MART"]

_GUARD = 1e-4
"""In the logarithm of 1 - p, as in the released code: p may be 1."""


@dataclass(frozen=True)
class MART:
    """BCE(x', y) + beta * KL(p(x) || p(x')) * (1 - p_y(x)), mean over the batch, x' from `training_attack` (on CE).

    BCE(x', y) = -log p_y(x') - log(1 - max_{k != y} p_k(x')). Wang et al., "Improving Adversarial Robustness Requires
    Revisiting Misclassified Examples" (ICLR 2020): beta 5 or 6, PGD of 10 steps of 0.007 within 0.031. The released
    code's guards 1e-12 in logarithms of softmaxes are not needed here, where logarithms are taken of logits. No result
    of an SNN trained so from scratch is known.
    """

    KNOB: ClassVar[Knob] = Knob("beta", (0.3, 1.0, 3.0, 6.0, 12.0))

    beta: float = 5.0

    def __post_init__(self) -> None:
        if not 0 <= self.beta < math.inf:
            raise UsageError("a finite beta >= 0", self.beta)

    def __call__(self, victim: VictimLike, x: Tensor, y: Tensor, rule: Rule, keys: Tensor, craft: Craft) -> Tensor:
        attacked = craft(x, y, keys)
        clean, moved = victim(x, rule, keys), victim(attacked, rule, keys)
        own = y[:, None]
        rival = torch.softmax(moved, 1).scatter(1, own, 0.0).amax(1)
        boosted = F.cross_entropy(moved, y, reduction="none") - torch.log(1.0 + _GUARD - rival)
        doubt = 1.0 - torch.softmax(clean, 1).gather(1, own)[:, 0]
        return (boosted + self.beta * divergence(clean, moved) * doubt).mean()
