"""Genetic search: a population of points, crossed and mutated; no gradient, and on from where others ended.

After Alzantot, Sharma, Chakraborty, Zhang, Hsieh and Srivastava, "GenAttack: practical black-box attacks with
gradient-free optimization" (GECCO 2019). Departures: it starts around the best point of another attack, a mutation sets
a block of pixels to a random level of the ball, parents are picked by their rank, more children are made than asked
about and a forecast picks, the best of parents and children live on, and of points of one loss only one does: a loss
made of spike counts has few values, and a population that may share one is soon a single point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from spikeproof.asking import ROUNDING, ask, at_once
from spikeproof.attacks._best import Best
from spikeproof.attacks._forecast import Forecast
from spikeproof.attacks._grid import Grid, sides
from spikeproof.attacks._options import at_least_one, check_ball
from spikeproof.errors import UsageError
from spikeproof.tensors import exact, fold, normal, uniform
from spikeproof.types import Estimator, Objective, Score, Threat

__all__ = ["GeneticSearch"]

_RIVALS = 3
"""Members that are drawn for each parent; the best of them is it."""

_STIRRED = 0.2
"""The share of the blocks that the first members have mutated."""

_ENDS = 4 / 3
"""How far random shifts would reach, in units of eps: a quarter of them are clamped to an end of the ball."""

_Since = Literal["clean", "start"]
"""What a gain is counted from: the clean image, or what the search started from."""

_LOOK = 64
"""Queries after which the pace is looked at first; then at every doubling (docs/decisions.md, 161)."""

_STILL, _CRAWL = (192, 4), 100.0
"""Queries, and how many times the population, after which an image stands still that misses more than 100 times what
the search itself has gained."""

_HELD = 2**25
"""Numbers of the populations that are searched at once; but always those of one image."""

_MEMORY = 128
"""Points of an image that a forecast is made from; fewer where `_HELD` numbers are not enough."""

_LUCK = 0.3
"""Of the spread of the forecasts, the noise that is added before the best are picked: a forecast may be wrong."""


@dataclass(frozen=True)
class GeneticSearch:
    """x0 (B,*) in [0,1], and so what it returns: the best point asked, the clean image apart.

    UsageError for a threat of whole events.

    queries >= 1: points asked an image, none more (each `scene.COMMON_DRAWS` forwards where the encoder draws).

    A population of `population` >= 1 points an image: the start, and copies of it with a fifth of their blocks mutated.
    Each round asks about `children` >= 1 more, and makes `candidates` >= 1 times as many: two parents, each the best of
    three members drawn at random; every block is either's with equal chance; each block is mutated with chance
    1 / blocks, and one at least. Those are asked about that promise most by kernel ridge regression over the last 128
    points of the image (of large images fewer, down to one round's), with noise of 0.3 of the forecasts' spread; all,
    where `candidates` is 1. The best `population` of all, of those with one loss the newest alone, are the next
    population. Blocks are squares of one channel, whose side halves from round to round from `share` in (0,1] of the
    image's shorter side to single pixels, and starts anew.

    L-inf: a mutation sets a block to a random shift from x0, a quarter of which are -eps or eps, the others between.
    L2 and L1: it adds up to eps of the norm, spread evenly over the block, with a random sign and scale, and the
    projection takes it from all others. Without `start` it begins at a random corner, as `random_corners` does. Use it
    with the margin loss.

    patience > 0: an image is left alone where its loss is too far from 0, which under the margin loss is the boundary.
    After 64 queries (the round that they end in) it may be as far as `patience` times what was gained since the clean
    image, gradients before the search included, after 128 half of that, and so on; the clean image is asked about once,
    after the first members. After 192, or four times the population, it may not be 100 times as far as the search has
    come since its start. None: to the end. Some are left alone that it would have broken, for most of the queries; from
    a random start, where nothing was gained before, more of them.
    """

    asks_gradient: ClassVar[bool] = False
    queries: int = 1000
    population: int = 32
    children: int = 16
    candidates: int = 4
    share: float = 0.125
    patience: float | None = None

    def __post_init__(self) -> None:
        at_least_one(queries=self.queries, population=self.population)
        at_least_one(children=self.children, candidates=self.candidates)
        if not 0 < self.share <= 1:
            raise UsageError("share in (0,1]", self.share)
        if self.patience is not None and not self.patience > 0:
            raise UsageError("patience > 0, or None for a search to the end", self.patience)

    @property
    def label(self) -> str:
        return f"genetic-{self.queries} of {self.population}"

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
        check_ball(threat)
        if start is None:
            start = x0 + threat.eps * threat.ascend(normal(fold(keys, "genetic start"), x0.shape[1:]).to(x0))
        start = threat.project(start, x0)
        best = Best(x0, final=f.final)
        grids = [Grid(x0, side) for side in sides(self.share, x0)]
        some, memory = self._held(x0.shape[1:].numel())
        for first in range(0, len(x0), some):
            at = torch.arange(first, min(first + some, len(x0)), device=x0.device)
            forecast = Forecast(memory) if self.candidates > 1 else None
            self._search(_Population(f, x0, threat, keys, best, at, forecast), start[at], grids)
        return best.x

    def _held(self, numbers: int) -> tuple[int, int]:
        """Images that are searched at once, and points of each that a forecast is made from. An image is of so many
        `numbers`; of what is remembered, in float64, each counts twice, and so do some four matrices of it."""
        most, born = _HELD // numbers, self.population + self.candidates * self.children
        if self.candidates == 1:
            return max(most // born, 1), 0
        memory = min(_MEMORY, max((most - born) // 2, self.children))
        return max(_HELD // (numbers * (born + 2 * memory) + 8 * memory**2), 1), memory

    def _search(self, alive: _Population, start: Tensor, grids: list[Grid]) -> None:
        """One group of images, whose populations are held at once."""
        alive.begin(start, min(self.population, self.queries), grids[0])
        asked, number = min(self.population, self.queries), 0
        looks = self._looks()
        if looks and asked < self.queries and len(alive.at):
            alive.compare()
            asked += 1
        while asked < self.queries and len(alive.at):
            count = min(self.children, self.queries - asked)
            alive.round(count, self.candidates, grids[number % len(grids)], f"round {number}")
            asked, number = asked + count, number + 1
            while looks and asked >= looks[0][0]:
                _, times, since = looks.pop(0)
                alive.leave(times, since)

    def _looks(self) -> list[tuple[int, float, _Since]]:
        """After how many queries the pace is looked at, and how many times what was gained may be missing."""
        if self.patience is None:
            return []
        doublings = range((self.queries // _LOOK).bit_length())
        looks: list[tuple[int, float, _Since]] = [(_LOOK << k, self.patience / 2**k, "clean") for k in doublings]
        return sorted([*looks, (max(_STILL[0], _STILL[1] * self.population), _CRAWL, "start")])


class _Population:
    """The images (n,) that are still searched: which of the batch they are (`at`), their members x (n,p,*), the best
    first, and what these score (n,p)."""

    def __init__(
        self, f: Objective, x0: Tensor, threat: Threat, keys: Tensor, best: Best, at: Tensor, forecast: Forecast | None
    ) -> None:
        self.f, self.x0, self.threat, self.keys = f, x0, threat, keys
        self.best, self.at, self.forecast = best, at, forecast
        self.most = at_once(x0)
        self.salt = 0  # of a round, whatever company the image is in

    def begin(self, start: Tensor, count: int, grid: Grid) -> None:
        """The start (n,*), and `count` - 1 mutants of it."""
        self.size, x = count, start[:, None]
        score = self._ask(x)
        self.first = self.clean = score.loss[:, 0]  # until the clean images are asked about
        self._survive(x, score)
        if count > 1 and len(self.at):
            keys = fold(self.keys, "first")[self.at]
            where = uniform(fold(keys, "where"), (count - 1, grid.count)) < _STIRRED
            self._born(self._mutated(self.x.expand(-1, count - 1, *start.shape[1:]), where, grid, keys))

    def compare(self) -> None:
        """What the clean images score."""
        self.clean = self.f.of(self.at)(self.x0[self.at], exact, self.salt).loss

    def round(self, asked: int, candidates: int, grid: Grid, name: str) -> None:
        """Children (n,asked,*) of this population, of so many candidates each, and who lives on."""
        keys, count = fold(self.keys, name)[self.at], asked * candidates
        first, second = (self._parents(fold(keys, which), count) for which in ("first parent", "second parent"))
        from_first = grid.spread(uniform(fold(keys, "cross"), (count, grid.count)) < 0.5).view_as(first)
        luck = uniform(fold(keys, "where"), (count, grid.count))
        where = (luck < 1 / grid.count) | (luck == luck.amin(2, keepdim=True))
        x = self._mutated(torch.where(from_first, first, second), where, grid, keys)
        self._born(x if self.forecast is None else self._promising(x, asked, self.forecast, fold(keys, "luck")))

    def _promising(self, x: Tensor, count: int, forecast: Forecast, keys: Tensor) -> Tensor:
        """So many of points x (n,c,*), the best by their forecasts and luck."""
        told = forecast.of(x)
        luck = told.std(1, correction=0, keepdim=True) * normal(keys, told.shape[1:])
        return _picked(x, (told + _LUCK * luck).argsort(dim=1, descending=True, stable=True)[:, :count])

    def _born(self, x: Tensor) -> None:
        """New points (n,c,*) beside the members: who lives on."""
        score = self._ask(x)
        both = (torch.cat(pair, 1) for pair in zip(score, self.score, strict=True))
        self._survive(torch.cat([x, self.x], 1), Score(*both))

    def _parents(self, keys: Tensor, count: int) -> Tensor:
        """One for each child, (n,count,*): members stand in the order of what they are worth."""
        drawn = uniform(keys, (count, _RIVALS)) * self.x.shape[1]
        return _picked(self.x, drawn.long().amin(2))

    def _mutated(self, x: Tensor, where: Tensor, grid: Grid, keys: Tensor) -> Tensor:
        """Points x (n,c,*) with the blocks `where` (n,c,count) at a random level, and all within the threat."""
        threat, x0 = self.threat, self.x0[self.at].repeat_interleave(x.shape[1], 0)
        shift = 2.0 * uniform(fold(keys, "level"), where.shape[1:]).to(x) - 1.0
        if threat.norm == "Linf":
            level = x0.view_as(x) + threat.eps * grid.spread((_ENDS * shift).clamp(-1, 1)).view_as(x)
            moved = torch.where(grid.spread(where).view_as(x), level, x)
        else:
            scale = 2.0 ** (-5.0 * uniform(fold(keys, "length"), where.shape[1:]).to(x))
            spread = grid.size ** (1.0 if threat.norm == "L1" else 0.5)
            moved = x + threat.eps * grid.spread(where * shift.sign() * scale / spread).view_as(x)
        return threat.project(moved.flatten(0, 1), x0).view_as(x)

    def _ask(self, x: Tensor) -> Score:
        """Of points x (n,c,*), in passes of bounded size: (n,c)."""
        self.salt += 1
        found = ask(self.f, self.at.repeat_interleave(x.shape[1]), x.flatten(0, 1).__getitem__, self.salt, self.most)
        score = Score(*(one.view(x.shape[:2]) for one in found))
        if self.forecast is not None:
            self.forecast.learn(x, (score.loss.double() / ROUNDING).round())
        return score

    def _survive(self, x: Tensor, score: Score) -> None:
        """The best of points (n,c,*) are the members; an image that is fooled leaves where that is final."""
        order = _order(score)[:, : self.size]
        self.x, self.score = _picked(x, order), Score(*(one.gather(1, order) for one in score))
        self.best.offer(self.x[:, 0], Score(*(one[:, 0] for one in self.score)), self.at)
        if self.f.final:
            self._keep(~self.score.fooled[:, 0])

    def leave(self, times: float, since: _Since) -> None:
        """Give up those that are farther from the boundary than so many times what they have gained."""
        top, fooled = (one[:, 0] for one in self.score)
        gained = top - (self.first if since == "start" else self.clean)
        self._keep((top + times * gained >= 0) | fooled)

    def _keep(self, which: Tensor) -> None:
        """Of the images those alone, (n,) bool."""
        if which.all():
            return
        self.at, self.x = self.at[which], self.x[which]
        self.first, self.clean = self.first[which], self.clean[which]
        if self.forecast is not None:
            self.forecast.keep(which)
        self.score = Score(*(one[which] for one in self.score))


def _order(score: Score) -> Tensor:
    """The best first, of scores (n,c): what is fooled, then by the loss; but of those with one loss all but the first
    come last. (n,c) int64."""
    loss = score.loss.double()
    level = (loss / (ROUNDING * loss.abs().amin(1, keepdim=True).clamp(min=1.0))).round()
    order = level.argsort(dim=1, descending=True, stable=True)
    order = order.gather(1, score.fooled.gather(1, order).int().argsort(dim=1, descending=True, stable=True))
    level, fooled = level.gather(1, order), score.fooled.gather(1, order)
    twin = torch.zeros_like(fooled)
    twin[:, 1:] = (level[:, 1:] == level[:, :-1]) & (fooled[:, 1:] == fooled[:, :-1])
    return order.gather(1, twin.int().argsort(dim=1, stable=True))


def _picked(x: Tensor, which: Tensor) -> Tensor:
    """Members `which` (n,k) of populations x (n,p,*): (n,k,*)."""
    return x[torch.arange(len(x), device=x.device)[:, None], which]
