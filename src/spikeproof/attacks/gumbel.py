"""Gumbel: the chance of each move, raised by the gradient at moves that are drawn from it, and scored on these alone.

After "Exploring vulnerabilities in spiking neural networks: direct adversarial attacks on raw event data" (ECCV 2024),
which relaxes choices of events by Gumbel-softmax with a straight-through gradient. Departures: the binary case, a move
is made or not; whatever moves a threat knows, all of them candidates; a draw keeps the most likely where it has more
than the budget allows; the loss of the relaxed grid is never looked at, for that is no attack.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from spikeproof.attacks._aims import aimed_at_each
from spikeproof.attacks._best import Best
from spikeproof.attacks._events import free_moves
from spikeproof.attacks._options import at_least_one, check_targets
from spikeproof.errors import UsageError
from spikeproof.tensors import exact, fold, uniform
from spikeproof.types import Estimator, FreeMoves, Objective, Threat

__all__ = ["Gumbel"]

_UNLIKELY = -3.0
"""Where logits begin: one move in twenty is drawn."""


@dataclass(frozen=True)
class Gumbel:
    """logits <- logits + rate (m / largest |m|), m the averaged slope of the loss in the chance of each move.

    steps >= 1: rounds, of `draws` >= 1 gradients each, and a forward more for the likeliest moves; rate > 0;
    temperature > 0, by which choices are soft in the backward pass alone; decay in [0,1] of what is remembered of the
    slope. targets: 0 is untargeted; n is one run for each of the n likeliest wrong classes by the clean logits.
    """

    asks_gradient: ClassVar[bool] = True
    steps: int = 20
    draws: int = 2
    rate: float = 1.0
    temperature: float = 1.0
    decay: float = 0.75
    targets: int = 0

    def __post_init__(self) -> None:
        at_least_one(steps=self.steps, draws=self.draws)
        check_targets(self.targets)
        if not self.rate > 0 or not self.temperature > 0 or not 0 <= self.decay <= 1:
            raise UsageError("rate > 0, temperature > 0, decay in [0,1]", (self.rate, self.temperature, self.decay))

    @property
    def label(self) -> str:
        return f"gumbel-{'t-' if self.targets else ''}{self.steps}"

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
        moves = free_moves(threat, "gumbel")
        if self.targets:
            return aimed_at_each(replace(self, targets=0), self.targets, f, x0, threat, estimator, keys, start)
        best = Best(x0, final=f.final)
        part = best.standing(f, x0)
        x = x0 if start is None else moves.project(start, x0)
        way = x - x0  # of moves that can be either, by what the gradient says last
        logits = _UNLIKELY - 2.0 * _UNLIKELY * (moves.per_unit(way.abs()) > 0).to(x0)
        slope, carry = torch.zeros_like(logits), estimator.init(x)
        for k in range(self.steps * self.draws):
            score, gradient, carry = estimator(part.f, x, carry, k)
            best.offer(x, score, part.at)
            if (on := best.going_on(part.at)) is not None:
                part, logits, slope, carry = part.of(on), logits[on], slope[on], estimator.of(carry, on)
                gradient, way = gradient[on], way[on]
            if not len(part.at):
                return best.x
            way = torch.where(gradient != 0, gradient, way)
            gains = moves.gains(way, part.x0)
            slope = self.decay * slope + _soft(logits / self.temperature) * _of_largest(gains)
            if (k + 1) % self.draws == 0:
                logits = (logits + self.rate * _of_largest(slope)).clamp(-10.0, 10.0)
            noise = _logistic(fold(keys, f"draw {k}")[part.at], logits)
            x = _drawn(logits + noise, gains, way, part.x0, moves)
        with torch.no_grad():
            x = _drawn(logits, moves.gains(way, part.x0), way, part.x0, moves, all_=True)
            best.offer(x, part.f(x, exact, self.steps * self.draws), part.at)
        return best.x


def _soft(logits: Tensor) -> Tensor:
    """How fast a choice changes with its logit, in units of the most: in (0,1]."""
    chance = logits.sigmoid()
    return 4.0 * chance * (1.0 - chance)


def _of_largest(values: Tensor) -> Tensor:
    """Values (B,units) over the largest of each image in size; what is no move, and all zeros, are 0."""
    values = values.masked_fill(values.isinf(), 0.0)
    return values / values.abs().amax(1, keepdim=True).clamp(min=torch.finfo(values.dtype).tiny)


def _logistic(keys: Tensor, like: Tensor) -> Tensor:
    """The difference of two Gumbel numbers for each entry of (B,units)."""
    drawn = (uniform(keys, like.shape[1:]).to(like) + 2.0**-25).clamp(max=1.0 - 2.0**-24)
    return drawn.log() - (-drawn).log1p()


def _drawn(logits: Tensor, gains: Tensor, way: Tensor, x0: Tensor, moves: FreeMoves, *, all_: bool = False) -> Tensor:
    """The grid of the moves whose logits (B,units) are above 0, the largest where the budget has no more; `all_`: the
    largest, whatever they are."""
    worth = logits.masked_fill(gains.isinf(), float("-inf"))
    order = worth.sort(dim=1, descending=True, stable=True).indices[:, : min(int(moves.eps), worth.shape[1])]
    first = torch.zeros_like(worth, dtype=torch.bool).scatter_(1, order, True)
    return moves.moved(first & torch.isfinite(worth) & ((worth > 0) | all_), way, x0)
