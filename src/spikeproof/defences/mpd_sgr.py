"""MPD-SGR: a penalty on the share of membranes that the surrogate lets a gradient through."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spikeproof.defences._added import Added
from spikeproof.defences._watched import Heights
from spikeproof.errors import UsageError
from spikeproof.types import Craft, Knob, Rule, VictimLike

__all__ = ["MPDSGR"]


@dataclass(frozen=True, kw_only=True)
class MPDSGR(Added):
    """loss + weight * mean of Omega over layers, steps and channels.

    Omega = Phi((mu + gamma) / sigma) - Phi((mu - gamma) / sigma): the mass within +-gamma of the threshold, were the
    heights u - v_threshold of a channel at a step, over the batch and all positions, Gaussian with their mean mu and
    standard deviation sigma (at least 1e-3). "Membrane potential distribution, surrogate gradient regularisation" (AAAI
    2026, arXiv 2511.12199); no code is released, and its weight (eta) and gamma are not confirmed. It lowers what an
    attacker's surrogate sees, which a wider one gives back: read the audits. The read-out has no neuron and no part in
    it, as in the paper. Several forwards count as their mean.
    """

    KNOB: ClassVar[Knob] = Knob("weight", (0.3, 1.0, 2.0, 3.0, 6.0))

    weight: float = 1.0
    gamma: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf or not 0 < self.gamma < math.inf:
            raise UsageError("a finite weight >= 0 and gamma > 0", f"weight={self.weight}, gamma={self.gamma}")

    def __call__(self, victim: VictimLike, x: Tensor, y: Tensor, rule: Rule, keys: Tensor, craft: Craft) -> Tensor:
        heights = Heights(rule)
        loss = self.base_loss(victim, x, y, heights, keys, craft)
        return loss + self.weight * torch.stack(heights.mean(lambda h: _overlap(h, self.gamma))).mean()


def _overlap(heights: Tensor, gamma: float) -> Tensor:
    """Mean Omega of one layer, heights (T,B,C,*) -> a scalar in (0,1)."""
    over = (1, *range(3, heights.dim()))
    mean = heights.mean(over)
    spread = heights.var(over, correction=0).clamp(min=1e-6).sqrt()
    above, below = (torch.special.ndtr((mean + edge) / spread) for edge in (gamma, -gamma))
    omega: Tensor = above - below
    return omega.mean()
