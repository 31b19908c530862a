"""Sparse dynamic attack: moves that a gradient promises, each tried alone and kept if it helps, then as few as will do.

Lun et al., "Towards effective and sparse adversarial attack on spiking neural networks via breaking invisible surrogate
gradients" (CVPR 2025). Departures: any threat of free moves, with its budget: a grid of too many moves is no success,
and where the fewest are still too many the most useful are tried; the gradient is any estimator's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spikeproof.attacks._best import Best, Part
from spikeproof.attacks._events import free_moves
from spikeproof.attacks._options import at_least_one
from spikeproof.tensors import exact, fold, uniform
from spikeproof.types import Estimator, FreeMoves, Objective, Score, Threat

__all__ = ["SparseDynamic"]

_POINTS = 512
"""So many points a pass."""


@dataclass(frozen=True)
class SparseDynamic:
    """Round n = 1, 2, ...: the n `first` moves of the largest gradient that are not made yet are tried, each alone, and
    those kept that do not lower the loss. Once the image falls, moves are taken back, the least useful first, as many
    as can be without its standing again, by halving. Use it with the margin loss.

    steps >= 1: rounds, each of one gradient; first >= 1. A round n asks n `first` points and one, the end some ten.
    """

    asks_gradient: ClassVar[bool] = True
    steps: int = 10
    first: int = 10

    def __post_init__(self) -> None:
        at_least_one(steps=self.steps, first=self.first)

    @property
    def label(self) -> str:
        return f"sda-{self.steps}"

    @torch.no_grad()
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
        moves = free_moves(threat, "the sparse dynamic attack")
        run = _Run(f, x0, moves, keys, x0 if start is None else moves.project(start, x0))
        for number in range(1, self.steps + 1):
            if not len(run.part.at) or moves.eps == 0:
                break
            run.grow(estimator, number, number * self.first)
        run.end()
        return run.best.x


class _Run:
    """The images that have not fallen yet; made (n,units): which moves are made, way (n,*) of their signs, use
    (n,units): what each raised the loss by, alone, when it was tried; held: what is said of where they stand."""

    def __init__(self, f: Objective, x0: Tensor, moves: FreeMoves, keys: Tensor, x: Tensor) -> None:
        self.moves, self.keys, self.salt = moves, keys, 0
        self.best = Best(x0, final=f.final)
        self.part = Part(torch.arange(len(x0), device=x0.device), f, x0)
        self.way = x - x0
        self.made = moves.per_unit(self.way.abs()) > 0
        self.use = torch.zeros_like(moves.per_unit(x0))
        self.held = self._ask(x, self.part)
        self.best.offer(x, self.held)
        self._leave(self.held.fooled)

    def grow(self, estimator: Estimator, number: int, count: int) -> None:
        """One round, which tries `count` moves of each image."""
        x = self._at(self.made)
        gradient = estimator(self.part.f, x, estimator.init(x), number)[1]
        worth = self._promised(gradient, fold(self.keys, f"round {number}")[self.part.at])
        tried = worth.sort(dim=1, descending=True, stable=True).indices[:, :count]
        self.way = torch.where(x != self.part.x0, self.way, gradient)
        rise = self._alone(tried, torch.isfinite(worth.gather(1, tried)))
        self.made = self.made.scatter(1, tried, rise >= 0) | self.made
        self.use = self.use.scatter(1, tried, torch.where(rise >= 0, rise, self.use.gather(1, tried)))
        self.held = self._ask(self._at(self.made), self.part)
        self._offer(self.made, self.held)
        done = self._done()
        self._reduce((self.held.fooled & ~done).nonzero()[:, 0])
        self._leave(self.held.fooled | done)

    def end(self) -> None:
        """Of images that stand with more moves than the budget has: the most useful of them."""
        self._cut((self.made.sum(1) > self.moves.eps).nonzero()[:, 0])

    def _cut(self, on: Tensor) -> None:
        if not len(on):
            return
        worth = self.use[on].masked_fill(~self.made[on], float("-inf"))
        first = worth.sort(dim=1, descending=True, stable=True).indices[:, : int(self.moves.eps)]
        part, units = self.part.of(on), torch.zeros_like(self.made[on]).scatter(1, first, True)
        x = self.moves.moved(units, self.way[on], part.x0)
        self.best.offer(x, self._ask(x, part), part.at)

    def _promised(self, gradient: Tensor, keys: Tensor) -> Tensor:
        """What each move may gain, -inf where it gains nothing, is none or is made; moves without a gradient come last,
        by chance."""
        gains = self.moves.gains(gradient, self.part.x0)
        size = gains.abs().masked_fill(gains.isinf() | (gains == 0), float("inf")).amin(1, keepdim=True)
        luck = uniform(keys, gains.shape[1:]).to(gains) * torch.where(size.isinf(), 1.0, size)
        gains = torch.where(gains == 0, luck, gains)
        return gains.masked_fill((gains < 0) | self.made, float("-inf"))

    def _alone(self, tried: Tensor, there: Tensor) -> Tensor:
        """What each of the moves `tried` (n,m) raises the loss by, alone; below 0 where it is not there."""
        rise = torch.full_like(tried, -1, dtype=self.held.loss.dtype)
        owner, which = there.nonzero(as_tuple=True)
        for first in range(0, len(owner), _POINTS):
            on, move = owner[first : first + _POINTS], which[first : first + _POINTS]
            units = self.made[on].scatter(1, tried[on, move][:, None], True)
            part = self.part.of(on)
            found = self._ask(self.moves.moved(units, self.way[on], part.x0), part)
            rise[on, move] = found.loss - self.held.loss[on]
            fits = units.sum(1) <= self.moves.eps
            self._take(self.moves.moved(units, self.way[on], part.x0)[fits], found, fits, part)
        return rise

    def _reduce(self, on: Tensor) -> None:
        """Of images (m,) that have fallen: take back as many of the least useful moves as can be."""
        if not len(on):
            return
        part, made = self.part.of(on), self.made[on]
        rank = self.use[on].masked_fill(~made, float("inf")).argsort(dim=1, stable=True).argsort(dim=1)
        low, high = torch.zeros_like(on), made.sum(1)  # so many can be taken back; so many cannot, or are all
        while bool((high - low > 1).any()):
            middle = (low + high) // 2
            found = self._ask(self.moves.moved(made & (rank >= middle[:, None]), self.way[on], part.x0), part)
            low, high = torch.where(found.fooled, middle, low), torch.where(found.fooled, high, middle)
        units = made & (rank >= low[:, None])
        fits = units.sum(1) <= self.moves.eps
        # The fewest moves are returned, not the highest loss.
        self.best.x[part.at[fits]] = self.moves.moved(units, self.way[on], part.x0)[fits]
        self._cut(on[~fits])

    def _at(self, units: Tensor) -> Tensor:
        return self.moves.moved(units, self.way, self.part.x0)

    def _ask(self, x: Tensor, part: Part) -> Score:
        self.salt += 1
        return part.f(x, exact, self.salt)

    def _offer(self, units: Tensor, found: Score) -> None:
        fits = units.sum(1) <= self.moves.eps
        self._take(self._at(units)[fits], found, fits, self.part)

    def _take(self, x: Tensor, found: Score, fits: Tensor, part: Part) -> None:
        """Offer the points (k,*) of those that fit (m,) bool, of all that was found (m,), one an image at a time."""
        at, left = part.at[fits], Score(found.loss[fits], found.fooled[fits])
        while len(at):  # an image may stand in a pass several times
            once = _first_of_each(at)
            self.best.offer(x[once], Score(left.loss[once], left.fooled[once]), at[once])
            x, at, left = x[~once], at[~once], Score(left.loss[~once], left.fooled[~once])

    def _done(self) -> Tensor:
        """Which have a success that is final, (n,)."""
        on = self.best.going_on(self.part.at)
        done = torch.zeros_like(self.held.fooled) if on is None else torch.ones_like(self.held.fooled)
        return done if on is None else done.scatter(0, on, False)

    def _leave(self, fooled: Tensor) -> None:
        """Go on with those that have not fallen."""
        on = (~fooled).nonzero()[:, 0]
        self.part, self.way, self.made, self.use = self.part.of(on), self.way[on], self.made[on], self.use[on]
        self.held = Score(self.held.loss[on], self.held.fooled[on])


def _first_of_each(at: Tensor) -> Tensor:
    """Which entries of an index (m,) are the first of their value."""
    order = at.argsort(stable=True)
    new = torch.ones_like(at, dtype=torch.bool)
    new[1:] = at[order][1:] != at[order][:-1]
    return torch.zeros_like(new).scatter(0, order, new)
