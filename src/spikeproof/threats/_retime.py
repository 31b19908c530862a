"""Events at other times, each in its own line."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spikeproof.errors import UsageError
from spikeproof.retiming import same_counts
from spikeproof.tensors import fold, uniform
from spikeproof.threats._whole import Whole

__all__ = ["Retime"]


@dataclass(frozen=True)
class Retime(Whole):
    """Events of a grid (B,T,*) of ones and zeros at other times: each stays in its line, its place and polarity, no two
    end in one cell, and none is lost or new. What a move costs is counted between the grids, with the order of a line's
    events kept, which is never dearer than another (`retiming`).

    The published threat moves packets of any size and knows each by name; here cells hold one event or none.
    """

    adds_up: ClassVar[bool] = True

    @abstractmethod
    def line_costs(self, lines: Tensor, clean: Tensor) -> Tensor:
        """What each line of grids (B,T,L) costs, (B,L); every line has the events that it had."""

    def one_move(self, bins: Tensor) -> Tensor:
        """What it costs to move one event by so many bins, 0 or more."""
        return bins

    def room(self, lines: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Whether up to each cell there may be one event more, and one less: (B,T,L) bool, where eps bounds a line."""
        return torch.ones_like(lines, dtype=torch.bool), torch.ones_like(lines, dtype=torch.bool)

    @abstractmethod
    def _best(self, gradient: Tensor, x0: Tensor) -> Tensor:
        """As `best`, on grids (B,T,L)."""

    def best(self, gradient: Tensor, x0: Tensor) -> Tensor:
        return self._best(_lines(gradient, self.norm), _lines(x0, self.norm)).view_as(x0)

    def distance(self, x: Tensor, x0: Tensor) -> Tensor:
        """(B,), infinite where a line has lost an event or got one."""
        lines, clean = _lines(x, self.norm), _lines(x0, self.norm)
        costs = self.line_costs(lines, clean)
        spent = costs.sum(1) if self.adds_up else costs.amax(1)
        return spent.masked_fill(~same_counts(lines, clean), float("inf"))

    def sample(self, x0: Tensor, keys: Tensor) -> Tensor:
        """The best point of a random gradient, which spends all that can be spent; not every point is as likely."""
        return self.best(uniform(fold(keys, "moves"), x0.shape[1:]).to(x0) - 0.5, x0)


def _lines(x: Tensor, norm: str) -> Tensor:
    """Grids (B,T,*) -> (B,T,L)."""
    if x.dim() < 3:
        raise UsageError(f"grids (B,T,2,H,W), of events over time, for {norm}", f"shape {tuple(x.shape)}")
    return x.flatten(2)
