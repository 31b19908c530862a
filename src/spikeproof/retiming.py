"""Events that move in time: what a moved line costs, and the best line for each cost, exactly.

A line is what one place of a sensor says in one polarity over time, T cells of ones and zeros; grids here are (B,T,L),
L lines an image. Its events are alike, so a moved line is known by its cells, and of all ways to say which event went
where the one that keeps their order is the cheapest, in the sum of the moves as in the longest: where two of them
cross, exchanging their ends makes neither the sum nor the longest larger. With S(t) the surplus, how many more events
there are up to t than there were: the sum of the moves is that of |S(t)|, and S is 0 at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from spikeproof.spending import spend

__all__ = ["best_moved", "best_within", "fewest", "longest", "most_swapped", "same_counts", "surplus_bounds"]

_NUMBERS: Final = 2**17
"""Of a state of the tables that are filled at a time: with more, the processor's caches are left."""


def same_counts(x: Tensor, x0: Tensor) -> Tensor:
    """Whether every line has as many events as it had: grids (B,T,L) -> (B,)."""
    return (x.sum(1) == x0.sum(1)).all(1)


def fewest(x: Tensor, x0: Tensor) -> Tensor:
    """The sum of the moves of each line in bins, (B,L); the lines must have as many events as they had."""
    return (x - x0).cumsum(1).abs().sum(1)


def longest(x: Tensor, x0: Tensor) -> Tensor:
    """The longest move of each line in bins, (B,L); the lines must have as many events as they had."""
    return (_times(x) - _times(x0)).abs().amax(1).to(x0)


def _times(x: Tensor) -> Tensor:
    """When the events of each line are, in order; T where there is none any more: (B,T,L) int64."""
    steps = torch.arange(x.shape[1], device=x.device)[:, None]
    return torch.where(x > 0, steps, x.shape[1]).sort(dim=1).values


def most_swapped(gradient: Tensor, x0: Tensor, most: int) -> Tensor:
    """The grid (B,T,L) of the largest sum of gradient (x - x0) in which at most `most` events are elsewhere.

    Within a line the worst event goes to the best free cell, the next worst to the next best; each such pair gains
    less than the one before, so that the largest gains of all lines are the best choice there is.
    """
    free = torch.where(x0 > 0, float("-inf"), gradient).sort(dim=1, descending=True, stable=True)
    taken = torch.where(x0 > 0, gradient, float("inf")).sort(dim=1, stable=True)
    gain = (free.values - taken.values).flatten(1)
    first = gain.sort(dim=1, descending=True, stable=True).indices[:, :most]
    chosen = torch.zeros_like(gain, dtype=torch.bool).scatter_(1, first, True) & (gain > 0)
    chosen = chosen.view_as(x0)
    arrives = torch.zeros_like(chosen).scatter_(1, free.indices, chosen)
    leaves = torch.zeros_like(chosen).scatter_(1, taken.indices, chosen)
    return x0 + arrives.to(x0) - leaves.to(x0)


def best_within(gradient: Tensor, x0: Tensor, reach: int) -> Tensor:
    """The grid (B,T,L) of the largest sum of gradient (x - x0) in which no event is more than `reach` bins away; of
    equally good ones one with the smallest sum of moves."""
    found = x0.clone()
    at, gradients, lines = _movable(gradient, x0)
    for some in _few(torch.arange(len(lines), device=x0.device), x0.shape[1], reach=reach):
        table = _Table.of(gradients[some], lines[some], reach=reach)
        owner, place = at[some].unbind(1)
        found[owner, :, place] = table.line(table.values.argmax(1)).to(x0)  # the first of equal ones
    return found


def best_moved(gradient: Tensor, x0: Tensor, most: int) -> Tensor:
    """The grid (B,T,L) of the largest sum of gradient (x - x0) whose moves add up to `most` bins or less.

    Each line says what it gains for every sum of moves of its own, and `spend` shares out the budget among them.
    """
    found = x0.clone()
    at, gradients, lines = _movable(gradient, x0)
    steps, every = x0.shape[1], torch.arange(len(lines), device=x0.device)
    values = [_Table.of(gradients[s], lines[s], most=most).values for s in _few(every, steps, most=most)]
    if not values or most == 0:
        return found
    paid = spend(torch.cat(values), at[:, 0], len(x0), most)
    (moved,) = (paid > 0).nonzero(as_tuple=True)
    for some in _few(moved, steps, most=most):  # made once more: the tables of all would fill the memory
        owner, place = at[some].unbind(1)
        found[owner, :, place] = _Table.of(gradients[some], lines[some], most=most).line(paid[some]).to(x0)
    return found


def _movable(gradient: Tensor, x0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The lines in which something could move and gain: (image, line) of each (M,2), gradients (M,T) and cells (M,T),
    both float64."""
    count = x0.sum(1)
    at = ((count > 0) & (count < x0.shape[1]) & (gradient != 0).any(1)).nonzero()
    owner, place = at.unbind(1)
    return at, gradient[owner, :, place].double(), x0[owner, :, place].double()


def _few(rows: Tensor, steps: int, *, reach: int | None = None, most: int | None = None) -> Iterator[Tensor]:
    """The rows (M,) in parts whose tables are in memory at a time."""
    widest, dearest = _extent(steps, reach, most)
    size = max(_NUMBERS // ((2 * widest + 3) * (dearest + 1)), 1)
    return (rows[first : first + size] for first in range(0, len(rows), size))


def _extent(steps: int, reach: int | None, most: int | None) -> tuple[int, int]:
    """The largest surplus that a line can have, and the largest sum of moves."""
    widest = min(steps // 2, steps if reach is None else reach, steps if most is None else most)
    return widest, min(widest * (steps - widest), steps * steps if most is None else most)


@dataclass(frozen=True)
class _Table:
    """What lines (M,T) gain at best, for every sum of moves: values (M,C+1), -inf where there is no such line.

    It is filled cell by cell. A state is the surplus so far and the sum of moves so far; a cell may be left as it is,
    or changed, which adds or takes an event away. changed (T,M,surplus,sum): whether the best way to a state changed
    the cell, the sum before that cell's surplus is added.
    """

    values: Tensor
    changed: list[Tensor]
    lines: Tensor

    @classmethod
    def of(cls, gradient: Tensor, lines: Tensor, *, reach: int | None = None, most: int | None = None) -> _Table:
        """gradient, lines (M,T) float64; reach: the longest move; most: the largest sum of moves."""
        steps = lines.shape[1]
        widest, dearest = _extent(steps, reach, most)
        surplus = torch.arange(-widest, widest + 1, device=lines.device)
        low, high = surplus_bounds(lines[:, :, None], steps if reach is None else reach)
        # One surplus more on either side, which is never reached, so that a shift is a view.
        state = lines.new_full((len(lines), 2 * widest + 3, dearest + 1), float("-inf"))
        state[:, 1 + widest, 0] = 0.0
        event, gains = lines > 0, torch.where(lines > 0, -gradient, gradient)
        changed = []
        for t in range(steps):
            other = torch.where(event[:, t, None, None], state[:, 2:], state[:, :-2]) + gains[:, t, None, None]
            same = state[:, 1:-1]
            changed.append(other > same)
            found = torch.maximum(same, other)
            if reach is not None:
                outside = (surplus < low[:, t]) | (surplus > high[:, t])
                found = found.masked_fill(outside[:, :, None], float("-inf"))
            state = _paid(found, state)
        return cls(state[:, 1 + widest], changed, lines)

    def line(self, paid: Tensor) -> Tensor:
        """The line (M,T) that is the best of those with this sum of moves (M,)."""
        found, rows = self.lines.clone(), torch.arange(len(paid), device=paid.device)
        zero = self.changed[0].shape[1] // 2
        surplus, left = torch.zeros_like(paid), paid
        for t in range(found.shape[1] - 1, -1, -1):
            left = left - surplus.abs()
            other = self.changed[t][rows, zero + surplus, left]
            found[:, t] = torch.where(other, 1.0 - self.lines[:, t], self.lines[:, t])
            surplus = surplus - (found[:, t] - self.lines[:, t]).long()
        return found


def surplus_bounds(lines: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """The least and the largest surplus after each cell, (B,T,L) each, where no event may go further than `reach`: by t
    all have come that were there `reach` bins ago, and none that will only be in more than `reach`."""
    steps = lines.shape[1]
    reach = min(reach, steps)
    count = lines.cumsum(1)
    last = count[:, -1:].expand(-1, steps, -1)
    padded = torch.cat([torch.zeros_like(count), count, last], 1)
    low, high = (padded[:, steps + by : 2 * steps + by] for by in (-reach, reach))
    return low - count, high - count


def _paid(state: Tensor, like: Tensor) -> Tensor:
    """States (M,surplus,sum) with each surplus added to its sum, and a surplus more on either side as in `like`."""
    found = torch.full_like(like, float("-inf"))
    sums = state.shape[2]
    for index in range(state.shape[1]):
        price = abs(index - state.shape[1] // 2)
        if price < sums:
            found[:, 1 + index, price:] = state[:, index, : sums - price]
    return found
