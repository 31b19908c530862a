"""Swaps of moves, each tried on the network: where the searches over events stand, and how they go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from spikeproof.attacks._best import Best
from spikeproof.tensors import exact, fold, uniform
from spikeproof.types import EventThreat, Objective, Score

__all__ = ["Swaps", "Worth"]

Worth: TypeAlias = Callable[[], tuple[Tensor, Tensor]]
"""Of the images that are searched: which move each unit would make, (n,*) of its sign, and what each unit's move is
worth, (n,units); of a move that is made, how much is lost where it is taken back."""

_TOGETHER = (2, 3, 5, 8, 13, 21, 34)
"""How many of a round's best swaps are tried at once when each has been tried alone."""

_POINTS, _NUMBERS = 512, 2**22
"""A pass holds so many points at most, of so many numbers together; but always one of each image."""

_KICK = 3
"""Swaps at random, after as many rounds without a gain."""

_ROUNDING = 1e-6
"""Losses (relative above 1) that differ by less are equal: the same spikes, summed in another order."""


class Swaps:
    """The images (n,) that are still searched: which of the batch they are (`at`), which moves are made (`made`, with
    the `way` of each), what is `held` there, and what each may still ask (`left`)."""

    def __init__(self, f: Objective, x0: Tensor, threat: EventThreat, keys: Tensor, x: Tensor, queries: int) -> None:
        self.f, self.x0, self.threat, self.keys = f, x0, threat, keys
        self.best = Best(x0, final=f.final)
        self.at = torch.arange(len(x0), device=x0.device)
        self.left = torch.full_like(self.at, queries)
        self.stuck = torch.zeros_like(self.at)  # rounds without a gain
        self.most = max(min(_POINTS, _NUMBERS // x0[0].numel()), len(x0))
        self.salt = 0
        self.x, self.held = x.clone(), Score(x0.new_full((len(x0),), float("-inf")), self.at < 0)
        self._stand(self.at, x, self._ask(x, self.at))
        self._narrow()

    def round(self, worth: Worth, width: int, number: int) -> None:
        """`width` swaps, each alone; then the best of those that gain together; the best of all is where it goes on.

        A swap brings in a move and, where no more are free, takes another back. What is brought in is the most worth,
        what is taken back the least, by factors of chance in [0.5, 1.5], so that a refused swap is not repeated.
        """
        keys = fold(self.keys, f"round {number}")[self.at]
        (way, value), made, left = worth(), self.made, self.left.clone()
        value = value.masked_fill((self.stuck >= _KICK)[:, None] & torch.isfinite(value), 0.0)  # chance alone decides
        into, out = self._pairs(value, made, keys, width)
        alone = torch.eye(into.shape[1], dtype=torch.bool, device=made.device).expand(len(made), -1, -1)
        found = self._score(way, made, into, out, alone)
        gain = self._gain(found)
        order = gain.argsort(dim=1, descending=True, stable=True)
        rank = order.argsort(dim=1, stable=True)
        few = [count for count in _TOGETHER if count <= into.shape[1]]
        sets = torch.stack([(rank < count) & (gain > 0) for count in few], 1) if few else alone[:, :0]
        sets &= sets.sum(2, keepdim=True) > 1
        more = self._score(way, made, into, out, sets)
        sets, found = (
            torch.cat([alone, sets], 1),
            Score(*(torch.cat(both, 1) for both in zip(found, more, strict=True))),
        )
        self._go(way, made, into, out, sets, found)
        self.left = torch.where(self.left == left, 0, self.left)  # who had nothing to ask never will
        self._narrow()

    @property
    def made(self) -> Tensor:
        """Which units have moved, (n,units) bool."""
        return self.threat.per_unit((self.x != self.x0[self.at]).to(self.x)) > 0

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
        free = (int(self.threat.eps) - count).clamp(min=0)
        back = number - free
        out = torch.where(back >= 0, out.gather(1, back.clamp(min=0)), -1)
        nothing = (into < 0) | ((back >= 0) & (back >= count))
        into, out = torch.where(nothing, -1, into), torch.where(nothing, -1, out)
        worst = worst[:, : max(width // 8, 1)]
        worst = torch.where(made.gather(1, worst), worst, -1)
        return torch.cat([into, torch.full_like(worst, -1)], 1), torch.cat([out, worst], 1)

    def _points(self, way: Tensor, made: Tensor, into: Tensor, out: Tensor, sets: Tensor, owner: Tensor) -> Tensor:
        """One for each entry of `owner` (m,) into the images, with its swaps `sets` (m,width) made: (m,*)."""
        units = made[owner]
        for which, value in ((out, False), (into, True)):
            # One column more is where what is no unit goes.
            index = torch.where(sets & (which[owner] >= 0), which[owner], units.shape[1])
            units = torch.nn.functional.pad(units, (0, 1)).scatter(1, index, value)[:, :-1]
        x, x0 = self.x[owner], self.x0[self.at[owner]]
        # What is made keeps its way, what is new goes its own.
        return self.threat.moved(units, torch.where(x != x0, x - x0, way[owner]), x0)

    def _score(self, way: Tensor, made: Tensor, into: Tensor, out: Tensor, sets: Tensor) -> Score:
        """Of sets of swaps (n,s,width), in order while queries are left and none that is empty: (n,s), else -inf."""
        asked = (sets & ((into >= 0) | (out >= 0))[:, None]).any(2)
        asked &= asked.cumsum(1) <= self.left[:, None]
        owner, which = asked.nonzero(as_tuple=True)
        loss = self.x.new_full(asked.shape, float("-inf"))
        fooled = torch.zeros_like(asked)
        for first in range(0, len(owner), self.most):
            some = slice(first, first + self.most)
            x = self._points(way, made, into, out, sets[owner[some], which[some]], owner[some])
            found = self._ask(x, owner[some])
            loss[owner[some], which[some]], fooled[owner[some], which[some]] = found
        return Score(loss, fooled)

    def _ask(self, x: Tensor, owner: Tensor) -> Score:
        self.salt += 1
        self.left -= torch.bincount(owner, minlength=len(self.left))
        return self.f.of(self.at[owner])(x, exact, self.salt)

    def _gain(self, found: Score) -> Tensor:
        """Over what is held, in units of what rounding may be: (n,s). A success first, a loss of it never."""
        held, fooled = self.held.loss[:, None], self.held.fooled[:, None]
        gain = ((found.loss - held).double() / (_ROUNDING * held.abs().clamp(min=1.0))).round()
        gain = torch.where(found.fooled & ~fooled, gain + 1e12, gain)
        return torch.where(fooled & ~found.fooled, float("-inf"), gain)

    def _go(self, way: Tensor, made: Tensor, into: Tensor, out: Tensor, sets: Tensor, found: Score) -> None:
        """Each image to the best of its points: where none gains, to one that loses nothing, or after some rounds of
        that to any."""
        gain = self._gain(found)
        top, which = gain.max(1)
        kicked = self.stuck >= _KICK
        self.stuck = torch.where((top > 0) | kicked, 0, self.stuck + 1)
        (on,) = (((top >= 0) | kicked) & torch.isfinite(top)).nonzero(as_tuple=True)
        if len(on):
            x = self._points(way, made, into, out, sets[on, which[on]], on)
            self._stand(on, x, Score(found.loss[on, which[on]], found.fooled[on, which[on]]))

    def _stand(self, on: Tensor, x: Tensor, score: Score) -> None:
        """The images `on` (m,) stand at x (m,*) now; where a success is final, what is fooled has no queries left."""
        self.x[on] = x
        self.held.loss[on], self.held.fooled[on] = score
        self.best.offer(x, score, self.at[on])
        if self.f.final:
            self.left[on] = torch.where(score.fooled, 0, self.left[on])

    def _narrow(self) -> None:
        """Leave those that may ask nothing more."""
        on = (self.left > 0).nonzero()[:, 0]
        if len(on) < len(self.left):
            self.at, self.x, self.left, self.stuck = (each[on] for each in (self.at, self.x, self.left, self.stuck))
            self.held = Score(self.held.loss[on], self.held.fooled[on])
