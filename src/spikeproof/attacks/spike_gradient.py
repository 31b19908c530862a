"""Spike-compatible gradients (Liang et al., "Exploring adversarial attack in spiking neural networks with
spike-compatible gradient", 2021): gradients are made spikes by chance (G2S); where there is none, chance flips (RSF).

Departures: sizes are measured and zeros looked for image by image, where a public implementation does so over the whole
batch; what leaves the threat is brought back by the moves that the gradient is largest at; the best point is kept.
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
from spikeproof.tensors import exact, fold, per_image, uniform
from spikeproof.types import Estimator, Objective, Threat

__all__ = ["SpikeGradient"]


@dataclass(frozen=True)
class SpikeGradient:
    """Each step: a cell is chosen with the chance of its gradient's size, from 0 for the smallest of the image to 1 for
    the largest, and gets or loses an event by the gradient's sign, where it can.

    steps >= 1, and one forward more; share in [0,1]: of the cells that are flipped where the whole gradient is 0.
    targets: 0 is untargeted; n is one run for each of the n likeliest wrong classes by the clean logits.
    """

    asks_gradient: ClassVar[bool] = True
    steps: int = 20
    share: float = 0.05
    targets: int = 0

    def __post_init__(self) -> None:
        at_least_one(steps=self.steps)
        check_targets(self.targets)
        if not 0 <= self.share <= 1:
            raise UsageError("a share in [0,1]", self.share)

    @property
    def label(self) -> str:
        return f"g2s-{'t-' if self.targets else ''}{self.steps}"

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
        """Grids (B,*) of whole events -> admissible ones."""
        moves = event_threat(threat, "spike-compatible gradients")
        if self.targets:
            return aimed_at_each(replace(self, targets=0), self.targets, f, x0, threat, estimator, keys, start)
        best = Best(x0, final=f.final)
        part = best.standing(f, x0)
        x = x0 if start is None else moves.project(start, x0)
        carry = estimator.init(x)
        for k in range(self.steps):
            score, gradient, carry = estimator(part.f, x, carry, k)
            best.offer(x, score, part.at)
            if (on := best.going_on(part.at)) is not None:
                part, x, gradient, carry = part.of(on), x[on], gradient[on], estimator.of(carry, on)
            if not len(part.at):
                return best.x
            step = spikes_of(gradient, x, fold(keys, f"spikes {k}")[part.at], self.share)
            # What is held is as good as what is largest now: by chance one or the other stays within the budget.
            luck = uniform(fold(keys, f"kept {k}")[part.at], x.shape[1:]).to(x)
            wanted = (x + step - part.x0).clamp(-1.0, 1.0)
            x = moves.best(wanted.sign() * (_share(gradient) + luck), part.x0)
        with torch.no_grad():
            best.offer(x, part.f(x, exact, self.steps), part.at)
        return best.x


def spikes_of(gradient: Tensor, x: Tensor, keys: Tensor, share: float) -> Tensor:
    """What a step adds to grids x (B,*) of ones and zeros, or of counts in [0,1]: -1, 0 or 1 a cell, (B,*). The cell of
    the largest gradient is always chosen, that of the smallest never."""
    drawn = uniform(keys, x.shape[1:]).to(x)
    chosen = gradient.sign() * (drawn < _share(gradient))
    flipped = (drawn < share) * (1.0 - 2.0 * (x > 0).to(x))
    blind = (gradient == 0).flatten(1).all(1)
    step = torch.where(per_image(x, blind), flipped, chosen)
    room = torch.where(step > 0, x < 1, x > 0)  # what would leave the box is not done
    return step * room


def _share(gradient: Tensor) -> Tensor:
    """The size of each entry between the smallest, 0, and the largest of its image, 1: (B,*); of equal ones, 0."""
    size = gradient.abs()
    low, high = size.flatten(1).amin(1), size.flatten(1).amax(1)
    return (size - per_image(size, low)) / per_image(size, (high - low).clamp(min=torch.finfo(size.dtype).tiny))
