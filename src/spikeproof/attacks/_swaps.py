"""Swaps of moves, each tried on the network: a search over threats whose moves are free of each other."""

from __future__ import annotations

import torch
from torch import Tensor

from spikeproof.attacks._walk import KICK, Walk
from spikeproof.tensors import fold, signs, uniform
from spikeproof.types import FreeMoves, Objective

__all__ = ["Swaps"]


class Swaps(Walk):
    """A swap brings in a move and, where no more are free, takes another back. What is brought in is the most worth,
    what is taken back the least, by factors of chance in [0.5, 1.5], so that a refused swap is not repeated."""

    def __init__(self, f: Objective, x0: Tensor, threat: FreeMoves, keys: Tensor, x: Tensor, queries: int) -> None:
        self.threat = threat
        super().__init__(f, x0, threat, keys, x, queries)

    def round(self, gradient: Tensor | None, width: int, number: int) -> None:
        keys = fold(self.keys, f"round {number}")[self.at]
        way, value = self._worth(gradient, number)
        value = value.masked_fill((self.stuck >= KICK)[:, None] & torch.isfinite(value), 0.0)  # chance alone decides
        made = self.made
        into, out = self._pairs(value, made, keys, width)
        self._swaps = way, made, into, out
        self._try(into.shape[1])

    @property
    def made(self) -> Tensor:
        """Which units have moved, (n,units) bool."""
        return self.threat.per_unit((self.x != self.x0[self.at]).to(self.x)) > 0

    def _worth(self, gradient: Tensor | None, number: int) -> tuple[Tensor, Tensor]:
        """Which move each unit would make, (n,*) of its sign, and what each unit's move is worth, (n,units); of a move
        that is made, how much is lost where it is taken back."""
        clean, made = self.x0[self.at], self.made
        if gradient is None:
            way = signs(fold(self.keys, f"way {number}")[self.at], self.x0.shape[1:]).to(self.x0)
            gains = self.threat.gains(way, clean)
            return way, torch.zeros_like(gains).masked_fill(torch.isinf(gains) & ~made, float("-inf"))
        taken = self.threat.per_unit(gradient * (self.x - clean))
        return gradient, torch.where(made, taken, self.threat.gains(gradient, clean))

    def _possible(self, sets: Tensor) -> Tensor:
        _, _, into, out = self._swaps
        return (sets & ((into >= 0) | (out >= 0))[:, None]).any(2)

    def _pairs(self, value: Tensor, made: Tensor, keys: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Units to bring in (n,m), and as many to take back, the best with the worst; -1 for none, where a move is
        free, and where one is taken back alone, as an eighth of them is."""
        chance = 0.5 + uniform(fold(keys, "chance"), value.shape[1:]).to(value)
        tie = 1e-30 * chance
        bring = torch.where(made, float("-inf"), torch.where(value > 0, value * chance, value / chance) + tie)
        width = min(width, value.shape[1])
        into = bring.sort(dim=1, descending=True, stable=True).indices[:, :width]
        into = torch.where(torch.isfinite(bring.gather(1, into)), into, -1)
        take = torch.where(made, torch.where(value > 0, value / chance, value * chance) - tie, float("inf"))
        worst = take.sort(dim=1, stable=True).indices
        out = worst[:, :width]
        count = made.sum(1, keepdim=True)
        number = torch.arange(width, device=made.device)
        # Moves that are free are brought in without one taken back; a swap needs one that is made.
        free = (int(self.eps) - count).clamp(min=0)
        back = number - free
        out = torch.where(back >= 0, out.gather(1, back.clamp(min=0)), -1)
        nothing = (into < 0) | ((back >= 0) & (back >= count))
        into, out = torch.where(nothing, -1, into), torch.where(nothing, -1, out)
        worst = worst[:, : max(width // 8, 1)]
        worst = torch.where(made.gather(1, worst), worst, -1)
        return torch.cat([into, torch.full_like(worst, -1)], 1), torch.cat([out, worst], 1)

    def _points(self, sets: Tensor, owner: Tensor) -> Tensor:
        way, made, into, out = self._swaps
        units = made[owner]
        for which, value in ((out, False), (into, True)):
            # One column more is where what is no unit goes.
            index = torch.where(sets & (which[owner] >= 0), which[owner], units.shape[1])
            units = torch.nn.functional.pad(units, (0, 1)).scatter(1, index, value)[:, :-1]
        x, x0 = self.x[owner], self.x0[self.at[owner]]
        # What is made keeps its way, what is new goes its own.
        return self.threat.moved(units, torch.where(x != x0, x - x0, way[owner]), x0)
