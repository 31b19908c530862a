"""Soft choices of when each event happens: a logit for every event and shift, and the grid that they expect.

Grids are (B,T,L), L lines of T cells an image; an image has E events at most, U shifts each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["Shifts"]

_LIMIT, _NEAR, _FIRM = 10.0, 4.0, 1.0
"""Of the logits: how far they go, where those of shifts by a bin or none begin, and what is more likely by that."""


@dataclass(frozen=True)
class Shifts:
    """cell (B,E,U): where an event is after a shift, as an index into T L cells; there (B,E,U) bool: whether that is a
    cell, and the event one (images have fewer events than E); sizes (U,): the shifts in bins; logits (B,E,U)."""

    shape: tuple[int, int]
    cell: Tensor
    there: Tensor
    sizes: Tensor
    logits: Tensor

    @classmethod
    def of(cls, x0: Tensor, reach: int, towards: Tensor | None = None) -> Shifts:
        """Shifts of at most `reach` bins of the events of x0 (B,T,L); towards (B,T,L): where they are the likeliest."""
        steps, lines = x0.shape[1:]
        owner, time, line = x0.nonzero().unbind(1)
        count = torch.bincount(owner, minlength=len(x0))
        slot = torch.arange(len(owner), device=x0.device) - (count.cumsum(0) - count)[owner]
        sizes = torch.arange(-reach, reach + 1, device=x0.device)
        after = time[:, None] + sizes
        most = max(int(count.max()), 1) if len(count) else 1
        cell = torch.zeros(len(x0), most, len(sizes), dtype=torch.int64, device=x0.device)
        there = torch.zeros_like(cell, dtype=torch.bool)
        cell[owner, slot] = after.clamp(0, steps - 1) * lines + line[:, None]
        there[owner, slot] = (after >= 0) & (after < steps)
        logits = x0.new_full(cell.shape, 0.0)
        logits[:, :, sizes.abs() <= 1] = _NEAR
        if towards is not None:
            moved = _ordered(towards)[owner, _rank(x0)[owner, time, line], line] - time
            logits[owner, slot, (moved + reach).clamp(0, 2 * reach)] = _NEAR + _FIRM
        return cls((steps, lines), cell, there, sizes, logits)

    def take(self, index: Tensor) -> Shifts:
        """Those of some images: index (n,) into them."""
        return replace(self, cell=self.cell[index], there=self.there[index], logits=self.logits[index])

    def likelihood(self) -> Tensor:
        """How likely each shift is, (B,E,U); 0 where there is none."""
        return self.logits.masked_fill(~self.there, float("-inf")).softmax(2).where(self.there, 0.0)

    def soft(self) -> Tensor:
        """How many events are expected in each cell, (B,T,L)."""
        grid = self.logits.new_zeros(len(self.logits), self.shape[0] * self.shape[1])
        return grid.scatter_add(1, self.cell.flatten(1), self.likelihood().flatten(1)).view(-1, *self.shape)

    def climb(self, gradient: Tensor, prices: Tensor, step: float) -> Shifts:
        """With the logits a step along the sign of the gradient: that of what a cell's content is worth (B,T,L), less
        the price (B,U) of each shift."""
        worth = gradient.flatten(1).gather(1, self.cell.flatten(1)).view_as(self.logits) - prices[:, None]
        likely = self.likelihood()
        slope = likely * (worth - (likely * worth).sum(2, keepdim=True))
        return replace(self, logits=(self.logits + step * slope.sign()).clamp(-_LIMIT, _LIMIT))


def _rank(x: Tensor) -> Tensor:
    """How many events of its line come before each cell, (B,T,L) int64."""
    return (x.cumsum(1) - x).round().long()


def _ordered(x: Tensor) -> Tensor:
    """When the events of each line are, in order, (B,T,L) int64; T where there is none any more."""
    steps = torch.arange(x.shape[1], device=x.device)[:, None]
    return torch.where(x > 0, steps, x.shape[1]).sort(dim=1).values
