"""Retiming: events moved in time by soft choices that are made hard in every step (Spike-Retiming Attacks, ICLR 2026).

Each event has a logit for every shift, and the soft grid, in which it stands at all of them by their probabilities, is
differentiated; but what the network is asked is the admissible grid nearest to the soft one. Departures: that grid is
the nearest, exactly, where the published one is chosen greedily; the gradient is any estimator's at the hard grid, and
passed to the logits straight through; the best hard grid is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from spikeproof.attacks._aims import aimed_at_each
from spikeproof.attacks._best import Best
from spikeproof.attacks._events import reach, retime_threat
from spikeproof.attacks._options import at_least_one, check_targets
from spikeproof.attacks._shifts import Shifts
from spikeproof.errors import UsageError
from spikeproof.tensors import exact
from spikeproof.types import Estimator, Objective, RetimeThreat, Threat

__all__ = ["Retiming"]


@dataclass(frozen=True)
class Retiming:
    """logits <- clip(logits + step sign(gradient)), each step's grid the admissible one nearest to the soft grid.

    steps >= 1, and one forward more; step > 0 of the logits, which are within +-10 and begin at 4 for shifts of a bin
    or none; full: >= 0, the weight of what the soft grid holds of a cell above one event; over: >= 0, that of what its
    moves cost on average above the budget, where that is a sum. The usual ones are those of the published script: 20
    steps where each event is bounded, and 40 where a sum is. targets: 0 is untargeted; n is one run for each of the n
    likeliest wrong classes by the clean logits.
    """

    asks_gradient: ClassVar[bool] = True
    steps: int = 20
    step: float = 1.0
    full: float = 20.0
    over: float = 10.0
    targets: int = 0

    def __post_init__(self) -> None:
        at_least_one(steps=self.steps)
        check_targets(self.targets)
        if not self.step > 0 or not self.full >= 0 or not self.over >= 0:
            raise UsageError("step > 0, full >= 0 and over >= 0", f"{self.step}, {self.full}, {self.over}")

    @property
    def label(self) -> str:
        return f"retiming-{'t-' if self.targets else ''}{self.steps}"

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
        """Grids (B,T,*) of ones and zeros -> admissible ones."""
        moves = retime_threat(threat, "retiming")
        if self.targets:
            return aimed_at_each(replace(self, targets=0), self.targets, f, x0, threat, estimator, keys, start)
        best = Best(x0, final=f.final)
        part = best.standing(f, x0)
        x = x0 if start is None else moves.project(start, x0)
        lines, carry = x0.flatten(2), estimator.init(x)
        shifts = Shifts.of(lines, reach(moves, lines.shape[1]), None if start is None else x.flatten(2))
        for k in range(self.steps):
            score, gradient, carry = estimator(part.f, x, carry, k)
            best.offer(x, score, part.at)
            if (on := best.going_on(part.at)) is not None:
                part, shifts = part.of(on), shifts.take(on)
                gradient, carry = gradient[on], estimator.of(carry, on)
            if not len(part.at):
                return best.x
            shifts = self._climbed(shifts, gradient.flatten(2), moves)
            x = moves.project(shifts.soft().view_as(part.x0), part.x0)
        with torch.no_grad():
            best.offer(x, part.f(x, exact, self.steps), part.at)
        return best.x

    def _climbed(self, shifts: Shifts, gradient: Tensor, threat: RetimeThreat) -> Shifts:
        """One step along the gradient (B,T,L) of the loss, less what the soft grid has too much of."""
        crowd = 2.0 * (shifts.soft() - 1.0).clamp(min=0.0) / gradient.shape[1:].numel()
        prices = threat.one_move(shifts.sizes.abs()).to(gradient) / max(threat.eps, 1.0)
        spent = (shifts.likelihood() * prices).sum((1, 2))
        excess = (spent > 1.0) & threat.adds_up
        return shifts.climb(gradient - self.full * crowd, self.over * excess[:, None] * prices, self.step)
