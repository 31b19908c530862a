"""Moves of whole events that are free of each other: any eps of them may be made."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from spikeproof.tensors import fold, signs, uniform
from spikeproof.threats._whole import Whole

__all__ = ["Moves", "count", "unless"]


@dataclass(frozen=True)
class Moves(Whole):
    """At most eps moves, each of a unit of its own: a cell, or the two cells of one place. A move is made or not, so
    what is best for a linear loss, or nearest to a point, is the choice of the largest gains, exactly."""

    @abstractmethod
    def gains(self, gradient: Tensor, x0: Tensor) -> Tensor:
        """What each unit's move adds to a linear loss of this gradient, -inf where there is no move: (B,units)."""

    @abstractmethod
    def _moved(self, way: Tensor, x0: Tensor) -> Tensor:
        """The grid (B,*) with every move made that there is, the way (B,*) up or down where it can be either."""

    def per_unit(self, values: Tensor) -> Tensor:
        """Values (B,*) of cells, added up in each unit: (B,units)."""
        return values.flatten(1)

    def _cells(self, units: Tensor, x0: Tensor) -> Tensor:
        """Units (B,units) bool -> the cells that they are made of, (B,*) bool."""
        return units.view_as(x0)

    def moved(self, units: Tensor, way: Tensor, x0: Tensor) -> Tensor:
        """x0 (B,*) with the moves of some units (B,units) bool, which must be there; the way (B,*): of its sign, where
        a move can be either."""
        return torch.where(self._cells(units, x0), self._moved(way, x0), x0)

    def _chosen(self, worth: Tensor) -> Tensor:
        """The units (B,units) bool of the largest worth above 0, eps at most, the first of equal ones."""
        most = min(int(self.eps), worth.shape[1])
        order = worth.sort(dim=1, descending=True, stable=True).indices[:, :most]
        return torch.zeros_like(worth, dtype=torch.bool).scatter_(1, order, True) & (worth > 0)

    def best(self, gradient: Tensor, x0: Tensor) -> Tensor:
        """The admissible point (B,*) of the largest sum of gradient (x - x0)."""
        return self.moved(self._chosen(self.gains(gradient, x0)), gradient, x0)

    def sample(self, x0: Tensor, keys: Tensor) -> Tensor:
        """eps moves at random, all where there are fewer; every set of them is as likely."""
        way = signs(fold(keys, "way"), x0.shape[1:]).to(x0)
        there = torch.isfinite(self.gains(way, x0))
        drawn = 1.0 - uniform(fold(keys, "moves"), there.shape[1:]).to(x0)
        return self.moved(self._chosen(torch.where(there, drawn, float("-inf"))), way, x0)


def count(cells: Tensor, x0: Tensor) -> Tensor:
    """How many of the cells (B,*) bool there are, in the dtype of x0: (B,)."""
    return cells.flatten(1).sum(1).to(x0)


def unless(wrong: Tensor, distance: Tensor) -> Tensor:
    """The distance (B,), infinite where anything is wrong, (B,*) bool."""
    return distance.masked_fill(wrong.flatten(1).any(1), float("inf"))
