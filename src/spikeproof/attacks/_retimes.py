"""Single events moved in time, each move tried on the network: a search over retimed grids.

Grids are (n,T,L) here, L lines of T cells an image.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from spikeproof.attacks._walk import KICK, Walk
from spikeproof.tensors import fold, uniform
from spikeproof.types import Objective, RetimeThreat

__all__ = ["Retimes"]


class _Moves(NamedTuple):
    """Moves of a round, m for each of n images, of one line each: which line, L for none (n,m), what it is then
    (n,m,T), and what that costs (n,m)."""

    place: Tensor
    line: Tensor
    price: Tensor

    def padded(self, count: int, none: int) -> _Moves:
        """With so many more that move nothing."""
        place = torch.nn.functional.pad(self.place, (0, count), value=none)
        line = torch.nn.functional.pad(self.line, (0, 0, 0, count))
        return _Moves(place, line, torch.nn.functional.pad(self.price, (0, count)))


class _Backs(NamedTuple):
    """What each of the m moves puts back as it was: of the lines in this order (n,L), those from the first to before
    the last (n,m)."""

    order: Tensor
    first: Tensor
    last: Tensor


class Retimes(Walk):
    """A change moves one event of a line to a free cell, and puts lines back as they were where the budget is spent
    otherwise. What moves gains the most, what is put back is worth the least, by factors of chance in [0.5, 1.5]."""

    def __init__(self, f: Objective, x0: Tensor, threat: RetimeThreat, keys: Tensor, x: Tensor, queries: int) -> None:
        self.threat = threat
        super().__init__(f, x0, threat, keys, x, queries)

    def round(self, gradient: Tensor | None, width: int, number: int) -> None:
        keys = fold(self.keys, f"round {number}")[self.at]
        lines, clean = self.x.flatten(2), self.x0[self.at].flatten(2)
        worth = torch.zeros_like(lines) if gradient is None else gradient.flatten(2)
        worth = worth.masked_fill((self.stuck >= KICK)[:, None, None], 0.0)  # chance alone decides
        self._spent = self.threat.line_costs(lines, clean)
        moves = self._best_moves(worth, lines, clean, keys, min(width, lines.shape[2]))
        alone = max(moves.place.shape[1] // 8, 1)  # so many lines are put back, and nothing is moved for it
        self._moves = moves.padded(alone, lines.shape[2])
        self._backs = self._paid_with((worth * (lines - clean)).sum(1), moves, alone, keys)
        self._try(self._moves.place.shape[1])

    def _best_moves(self, worth: Tensor, lines: Tensor, clean: Tensor, keys: Tensor, width: int) -> _Moves:
        """The best single moves, of lines of their own and none dearer than the whole budget."""
        chance = 0.5 + uniform(fold(keys, "chance"), lines.shape[1:]).to(lines)
        gain, source, target = _one_each(worth, lines, chance, *self.threat.room(lines, clean))
        place = gain.sort(dim=1, descending=True, stable=True).indices[:, : 4 * width]
        here = place[:, None].expand(-1, lines.shape[1], -1)
        steps = torch.arange(lines.shape[1], device=lines.device)[:, None]
        leaves, arrives = (steps == at.gather(1, place)[:, None] for at in (source, target))
        moved = lines.gather(2, here) - leaves.to(lines) + arrives.to(lines)
        there = torch.isfinite(gain.gather(1, place))
        moved = torch.where(there[:, None], moved, clean.gather(2, here))
        price = self.threat.line_costs(moved, clean.gather(2, here))
        good = there & (price <= self.eps)
        best = (~good).int().sort(dim=1, stable=True).indices[:, :width]
        place = torch.where(good, place, lines.shape[2]).gather(1, best)
        line = moved.transpose(1, 2).gather(1, best[:, :, None].expand(-1, -1, lines.shape[1]))
        return _Moves(place, line, price.gather(1, best))

    def _paid_with(self, taken: Tensor, moves: _Moves, alone: int, keys: Tensor) -> _Backs:
        """What each move puts back, lines of its own; and then some lines, each alone. taken (n,L): what the loss is
        less without what has moved in each line."""
        chance = 0.5 + uniform(fold(keys, "back"), taken.shape[1:]).to(taken)
        value = torch.where(taken > 0, taken / chance, taken * chance) - 1e-30 * chance
        order = torch.where(self._spent > 0, value, float("inf")).sort(dim=1, stable=True).indices
        freed = torch.nn.functional.pad(self._spent.gather(1, order).cumsum(1), (1, 0))
        need = self._lacking(moves)
        ends = [torch.zeros_like(moves.place[:, :1])]
        for index in range(need.shape[1]):
            lacking = need[:, index, None]
            end = torch.searchsorted(freed, freed.gather(1, ends[-1]) + lacking)
            ends.append(torch.where(lacking > 0, end, ends[-1]).clamp(max=taken.shape[1]))
        number = torch.arange(alone, device=taken.device).expand(len(taken), -1)
        moved = (self._spent > 0).sum(1, keepdim=True)
        first = torch.cat([*ends[:-1], torch.minimum(number, moved)], 1)
        return _Backs(order, first, torch.cat([*ends[1:], torch.minimum(number + 1, moved)], 1))

    def _lacking(self, moves: _Moves) -> Tensor:
        """How much is to be put back so that each move can be paid, (n,m); at most 0 where nothing is."""
        if not self.threat.adds_up:
            return torch.zeros_like(moves.price)
        before = torch.nn.functional.pad(self._spent, (0, 1)).gather(1, moves.place)
        lacking = moves.price - before - (self.eps - self._spent.sum(1, keepdim=True))
        return torch.where(moves.place < self._spent.shape[1], lacking, 0.0)

    def _possible(self, sets: Tensor) -> Tensor:
        flat = sets.flatten(0, 1)
        owner = torch.arange(len(sets), device=sets.device).repeat_interleave(sets.shape[1])
        some = (slice(first, first + self.most) for first in range(0, len(flat), self.most))
        return torch.cat([self._payable(flat[s], owner[s]) for s in some]).view(sets.shape[:2])

    def _payable(self, sets: Tensor, owner: Tensor) -> Tensor:
        """Whether these changes (m,width) lead anywhere, and within the budget: (m,)."""
        back, place = self._put_back(sets, owner), self._places(sets, owner)
        costs = torch.nn.functional.pad(self._spent[owner].masked_fill(back, 0.0), (0, 1))
        costs = costs.scatter(1, place, self._moves.price[owner])[:, :-1]
        total = costs.sum(1) if self.threat.adds_up else costs.amax(1)
        return (total <= self.eps) & (back.any(1) | (place < back.shape[1]).any(1))

    def _points(self, sets: Tensor, owner: Tensor) -> Tensor:
        x0, x = self.x0[self.at[owner]], self.x[owner]
        lines = torch.where(self._put_back(sets, owner)[:, None], x0.flatten(2), x.flatten(2))
        place = self._places(sets, owner)[:, None].expand(-1, lines.shape[1], -1)
        # One line more is where what moves nothing goes.
        lines = torch.nn.functional.pad(lines, (0, 1)).scatter(2, place, self._moves.line[owner].transpose(1, 2))
        return lines[:, :, :-1].reshape(x.shape)

    def _put_back(self, sets: Tensor, owner: Tensor) -> Tensor:
        """Which lines are as they were, once these changes (m,width) are made: (m,L)."""
        order, first, last = (each[owner] for each in self._backs)
        edge = torch.zeros(len(sets), order.shape[1] + 1, dtype=torch.int64, device=sets.device)
        edge = edge.scatter_add(1, first, sets.long()).scatter_add(1, last, -sets.long())
        ranked = edge.cumsum(1)[:, :-1] > 0
        return torch.zeros_like(ranked).scatter(1, order, ranked)

    def _places(self, sets: Tensor, owner: Tensor) -> Tensor:
        """The lines in which these changes (m,width) move an event, L for none."""
        return torch.where(sets, self._moves.place[owner], self._spent.shape[1])


def _one_each(
    worth: Tensor, lines: Tensor, chance: Tensor, more: Tensor, less: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Of each line the best single move: what it gains by chance, -inf where there is none, from which cell, to which:
    (n,L) each. more, less (n,T,L): whether up to a cell there may be an event more, and one less."""
    best, target = torch.full_like(lines, float("-inf")), torch.zeros_like(lines, dtype=torch.int64)
    for way in (-1, 1):
        open_ = lines > 0  # from where one still gets as far
        for size in range(1, lines.shape[1]):
            # An event that comes earlier is one more up to all cells before its own, one that is late is one less.
            open_ = open_ & (_seen(more, -size) if way < 0 else _seen(less, size - 1))
            gain, luck = _seen(worth, way * size) - worth, chance * _seen(chance, way * size)
            gain = torch.where(gain > 0, gain * luck, gain / luck) + 1e-30 * luck
            better = open_ & (_seen(lines, way * size, 1.0) == 0) & (gain > best)
            best = torch.where(better, gain, best)
            there = torch.arange(lines.shape[1], device=lines.device)[:, None] + way * size
            target = torch.where(better, there, target)
    top, source = best.max(1)
    return top, source, target.gather(1, source[:, None])[:, 0]


def _seen(values: Tensor, by: int, beyond: float = 0.0) -> Tensor:
    """What is `by` cells later (n,T,L), and something else beyond the ends."""
    edge = torch.full_like(values[:, : abs(by)], beyond)
    return torch.cat([values[:, by:], edge], 1) if by >= 0 else torch.cat([edge, values[:, :by]], 1)
