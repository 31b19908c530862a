"""Top events: the moves of whole events that a gradient promises most of, at once or in rounds.

At once it is the sparse encoding attack's step (Mukhoty et al., "Improving generalization and robustness in SNNs
through signed rate encoding and sparse encoding attacks", ICLR 2025). Departures: any threat of whole events; rounds;
the gradients of the rounds are averaged; the best point met is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from spikeproof.attacks._aims import aimed_at_each
from spikeproof.attacks._best import Best
from spikeproof.attacks._events import event_threat
from spikeproof.attacks._options import at_least_one, check_targets
from spikeproof.errors import UsageError
from spikeproof.tensors import exact, per_image
from spikeproof.types import Estimator, Objective, Threat

__all__ = ["TopEvents"]


@dataclass(frozen=True)
class TopEvents:
    """Each round: one gradient at the point, m <- decay m + g / mean|g|, then the best admissible point for a linear
    loss of gradient m. On a linear read-out each round finds the best point that there is.

    steps >= 1: rounds; the first half may make a growing share of the moves, the others all. decay in [0,1]. Costs
    `steps` gradients and a forward; of an image whose success is final, those until then. targets: 0 is untargeted; n
    is one run for each of the n likeliest wrong classes by the clean logits.
    """

    asks_gradient: ClassVar[bool] = True
    steps: int = 20
    decay: float = 0.75
    targets: int = 0

    def __post_init__(self) -> None:
        at_least_one(steps=self.steps)
        check_targets(self.targets)
        if not 0 <= self.decay <= 1:
            raise UsageError("a decay in [0,1]", self.decay)

    @property
    def label(self) -> str:
        return f"top-{'t-' if self.targets else ''}{self.steps}"

    def __call__(
        self,
        f: Objective,
        x0: Tensor,
        threat: Threat,
        estimator: Estimator,
        keys: Tensor,
        *,
        start: Tensor | None = None,
    ) -> Tensor:
        moves = event_threat(threat, "top events")
        if self.targets:
            return aimed_at_each(replace(self, targets=0), self.targets, f, x0, threat, estimator, keys, start)
        best = Best(x0, final=f.final)
        part = best.standing(f, x0)
        x = x0 if start is None else moves.project(start, x0)
        carry, m = estimator.init(x), torch.zeros_like(x)
        for k in range(self.steps):
            score, gradient, carry = estimator(part.f, x, carry, k)
            best.offer(x, score, part.at)
            m = self.decay * m + _per_mean(gradient)
            if (on := best.going_on(part.at)) is not None:
                part, m, carry = part.of(on), m[on], estimator.of(carry, on)
            if not len(part.at):
                return best.x
            share = max(2 * (k + 1) / self.steps, 1 / max(moves.eps, 1.0))
            x = moves.scaled(min(share, 1.0)).best(m, part.x0)
        with torch.no_grad():
            best.offer(x, part.f(x, exact, self.steps), part.at)
        return best.x


def _per_mean(g: Tensor) -> Tensor:
    """g / mean|g| of each image; all zeros stay zeros."""
    return g / per_image(g, g.flatten(1).abs().mean(1).clamp(min=torch.finfo(g.dtype).tiny))
