"""Block search: blocks of pixels pushed across the ball, many in a pass; no gradient, and on from where others ended.

After Moon, An and Song, "Parsimonious black-box adversarial attacks via efficient combinatorial optimization" (ICML
2019), who look for the best corner of the L-inf ball block by block, in ever smaller blocks. Departures: it starts at
the best point of another attack, joins the blocks that gain instead of scoring each again, and leaves a local optimum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spikeproof.asking import ask, at_once, gain
from spikeproof.attacks._best import Best
from spikeproof.attacks._grid import Grid, sides
from spikeproof.attacks._options import at_least_one, check_ball
from spikeproof.errors import UsageError
from spikeproof.tensors import fold, normal, signs, uniform
from spikeproof.types import Estimator, Objective, Score, Threat

__all__ = ["BlockSearch"]

_TOGETHER = (2, 3, 5, 8, 13, 21, 34, 55)
"""How many of a round's best blocks are tried at once when the round is over."""

_KICK = 3
"""Blocks that are moved at a local optimum."""

_ACROSS = 3.0
"""In units of eps: beyond the far side of an L-inf ball from wherever, so that rounding leaves no pixel short of it."""

_PACE = ((100, 3.0), (600, 0.5))
"""Queries after which the pace is looked at, and how many times what was gained by then may still be missing, at a
patience of 1. Chosen on two adversarially trained networks (docs/decisions.md, 82)."""


@dataclass(frozen=True)
class BlockSearch:
    """queries >= 1: points asked an image, none more (each `scene.COMMON_DRAWS` forwards where the encoder draws).

    Blocks are squares of one channel: at first `share` of the image's shorter side, then ever half of that, to single
    pixels. A sweep tries each block once, in an order of the image's own. A round of it, `width` blocks: each alone is
    pushed from where the image stands; then the best 2, 3, 5, ... of those that gain together; the best of all is where
    the image goes on. Where none gains, those that lose nothing are joined and walked along: a loss made of spike
    counts is a step function. A sweep over single pixels that gains nothing is a local optimum: three of the best
    point's blocks are moved, and the search goes on from there.

    L-inf: a push sets the block to x0 - eps or x0 + eps, whichever it is not at. L2 and L1: it adds up to eps of the
    norm, spread evenly over the block, with a random sign and scale, and the projection takes it from all others.
    Without `start` it begins at a random corner, as `random_corners` does. Use it with the margin loss.

    patience > 0: an image is left alone where its loss is too far from 0, which under the margin loss is the boundary:
    after the first 100 queries (the round that they end in) by more than 3 times the patience what they gained, after
    600 by more than half the patience of that; None: to the end. Some are left alone that it would have broken, for
    most of the queries (docs/decisions.md, 82).
    """

    asks_gradient: ClassVar[bool] = False
    queries: int = 1000
    width: int = 64
    share: float = 0.125
    patience: float | None = None

    def __post_init__(self) -> None:
        at_least_one(queries=self.queries, width=self.width)
        if self.patience is not None and not self.patience > 0:
            raise UsageError("patience > 0, or None for a search to the end", self.patience)
        if not 0 < self.share <= 1:
            raise UsageError("share in (0,1]", self.share)

    @property
    def label(self) -> str:
        return f"blocks-{self.queries}"

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
            start = x0 + threat.eps * threat.ascend(normal(fold(keys, "block start"), x0.shape[1:]).to(x0))
        walk = _Walk(f, x0, threat, keys, threat.project(start, x0), self.queries)
        edges = sides(self.share, x0)
        sweep = 0
        while len(walk.at):
            walk.enter(sweep, Grid(x0, edges[min(sweep, len(edges) - 1)]), kick=sweep >= len(edges))
            for first in range(0, walk.grid.count, self.width):
                if len(walk.at):
                    walk.round(slice(first, first + self.width), f"round {sweep} {first}")
                if self.patience is not None:
                    walk.leave(self.queries, self.patience)
            sweep += 1
        return walk.best.x


@dataclass(frozen=True)
class _Moves:
    """Where the blocks (n,k) of images at x (n,*) lead, each by a signed `push` (n,k) of its own, in units of eps."""

    threat: Threat
    grid: Grid
    x0: Tensor
    x: Tensor
    blocks: Tensor
    push: Tensor

    def points(self, owner: Tensor, chosen: Tensor) -> Tensor:
        """One of each image `owner` (m,), which may come often, with its blocks `chosen` (m,k) bool moved: (m,*)."""
        push = torch.where(chosen, self.push[owner], 0.0)
        spread = push.new_zeros(len(owner), self.grid.count).scatter_(1, self.blocks[owner], push)
        if self.threat.norm != "Linf":
            spread = spread / self.grid.size ** (1.0 if self.threat.norm == "L1" else 0.5)
        x = self.x[owner]
        return self.threat.project(x + self.threat.eps * self.grid.spread(spread).view_as(x), self.x0[owner])


class _Walk:
    """The images (n,) that are still searched: which of the batch they are (`at`), where each stands (`x`, with what is
    `held` of it), and what each may still ask (`left`)."""

    def __init__(self, f: Objective, x0: Tensor, threat: Threat, keys: Tensor, x: Tensor, queries: int) -> None:
        self.f, self.x0, self.threat, self.keys = f, x0, threat, keys
        self.best = Best(x0, final=f.final)
        self.at = torch.arange(len(x0), device=x0.device)
        self.left = torch.full_like(self.at, queries)
        self.risen = torch.zeros_like(self.at, dtype=torch.bool)
        self.looks = torch.zeros_like(self.at)  # at its pace, so far
        self.most = at_once(x0)
        self.salt = 0  # of a step of the search, whatever company the image is in
        self.x = x.clone()
        self.held = Score(x.new_full((len(x),), float("-inf")), torch.zeros_like(self.risen))
        self.top = self.held.loss.clone()
        self._stand(self.at, x, self._ask(lambda some: x[some], self.at))
        self.first = self.top.clone()

    def enter(self, sweep: int, grid: Grid, *, kick: bool) -> None:
        """A new order of the blocks; with `kick`, what the last sweep did not raise leaves its optimum."""
        keys = fold(self.keys, f"sweep {sweep}")
        self.salt += 1
        self.grid, self.order = grid, uniform(keys, (grid.count,)).argsort(dim=1, stable=True)
        stuck = (~self.risen).nonzero()[:, 0]
        if kick and len(stuck):
            self.x[stuck] = self.best.x[self.at[stuck]]
            moves = self._moves(self.order[:, -_KICK:], fold(keys, "kick"))
            x = moves.points(stuck, torch.ones_like(moves.blocks[stuck], dtype=torch.bool))
            self._stand(stuck, x, self._ask(lambda some: x[some], stuck))
        self.risen = torch.zeros_like(self.risen)
        self._narrow()

    def round(self, columns: slice, name: str) -> None:
        """The blocks in some columns of the order: each alone, then the best together; the best of all is taken."""
        moves = self._moves(self.order[:, columns], fold(self.keys, name))
        alone = torch.eye(moves.blocks.shape[1], dtype=torch.bool, device=self.x.device).expand(len(self.x), -1, -1)
        score = self._score(moves, alone)
        worth = gain(score, self.held)
        least = (worth.amax(1) > 0).to(worth)[:, None]  # what gains, or where nothing does, what loses nothing
        useful = (worth >= least).sum(1)
        rank = worth.argsort(dim=1, descending=True, stable=True).argsort(1)
        sizes = torch.tensor([n for n in _TOGETHER if n <= alone.shape[1]], device=self.x.device, dtype=torch.long)
        joined = (rank[:, None] < sizes[:, None]) & (sizes <= useful[:, None])[..., None]
        more = self._score(moves, joined)
        sets = torch.cat([joined, alone], 1)
        both = Score(torch.cat([more.loss, score.loss], 1), torch.cat([more.fooled, score.fooled], 1))
        worth = gain(both, self.held)
        top, chosen = worth.max(1)
        self.risen |= top > 0
        taken = (top >= 0).nonzero()[:, 0]
        chosen = chosen[taken]
        x = moves.points(taken, sets[taken, chosen])
        self._stand(taken, x, Score(both.loss[taken, chosen], both.fooled[taken, chosen]))
        self._narrow()

    def leave(self, queries: int, patience: float) -> None:
        """Give up those who are too far from the boundary for what they have gained, at each look of `_PACE` once."""
        for look, (after, times) in enumerate(_PACE):
            due = (self.looks == look) & (self.left <= queries - after)
            behind = self.top + times * patience * (self.top - self.first) < 0
            self.left = torch.where(due & behind & ~self.held.fooled, 0, self.left)
            self.looks += due
        self._narrow()

    def _moves(self, blocks: Tensor, keys: Tensor) -> _Moves:
        """Pushes for blocks (n,k) of every image. L-inf: to a side where the block is not yet."""
        threat, x = self.threat, self.x
        push = signs(fold(keys, "sign"), blocks.shape[1:])
        if threat.norm != "Linf":
            push = push * 2.0 ** (-5.0 * uniform(fold(keys, "length"), blocks.shape[1:]))
            return _Moves(threat, self.grid, self.x0[self.at], x, blocks, push.to(x))
        ends = (threat.project(x + side * _ACROSS * threat.eps, self.x0[self.at]) for side in (-1.0, 1.0))
        none = x.new_zeros(len(x), self.grid.count)
        low, high = (none.index_add(1, self.grid.of, (x != end).flatten(1).to(x)).gather(1, blocks) > 0 for end in ends)
        push = torch.where(high & ((push > 0) | ~low), _ACROSS, -_ACROSS)
        return _Moves(threat, self.grid, self.x0[self.at], x, blocks, push.to(x))

    def _score(self, moves: _Moves, sets: Tensor) -> Score:
        """Of the sets of blocks (n,s,k), in order while queries are left and none that is empty: (n,s), else -inf."""
        self.salt += 1
        asked = sets.any(2)
        asked &= asked.cumsum(1) <= self.left[:, None]
        owner, which = asked.nonzero(as_tuple=True)
        loss = self.x.new_full(asked.shape, float("-inf"))
        fooled = torch.zeros_like(asked)
        if len(owner):
            found = self._ask(lambda some: moves.points(owner[some], sets[owner[some], which[some]]), owner)
            loss[asked], fooled[asked] = found
        return Score(loss, fooled)

    def _ask(self, points: Callable[[slice], Tensor], owner: Tensor) -> Score:
        """Of one point for each entry of `owner` (m,) into the images, in passes of bounded size."""
        self.left -= torch.bincount(owner, minlength=len(self.left))
        return ask(self.f, self.at[owner], points, self.salt, self.most)

    def _stand(self, on: Tensor, x: Tensor, score: Score) -> None:
        """The images `on` (m,) stand at x (m,*) now; where a success is final, what is fooled has no queries left."""
        self.x[on] = x
        self.held.loss[on], self.held.fooled[on] = score
        self.top[on] = torch.maximum(self.top[on], score.loss)
        self.best.offer(x, score, self.at[on])
        if self.f.final:
            self.left[on] = torch.where(score.fooled, 0, self.left[on])

    def _narrow(self) -> None:
        """Leave those that may ask nothing more."""
        on = (self.left > 0).nonzero()[:, 0]
        if len(on) == len(self.left):
            return
        self.at, self.keys, self.x, self.left, self.risen, self.order = (
            each[on] for each in (self.at, self.keys, self.x, self.left, self.risen, self.order)
        )
        self.looks, self.first, self.top = self.looks[on], self.first[on], self.top[on]
        self.held = Score(self.held.loss[on], self.held.fooled[on])
