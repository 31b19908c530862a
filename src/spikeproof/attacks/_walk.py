"""A search over points that a network is asked about: where its images stand, and how they go on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

import torch
from torch import Tensor

from spikeproof.asking import at_once, gain
from spikeproof.attacks._best import Best
from spikeproof.tensors import exact
from spikeproof.types import EventThreat, Objective, Score

__all__ = ["KICK", "Walk"]

_TOGETHER = (2, 3, 5, 8, 13, 21, 34)
"""How many of a round's best changes are tried at once when each has been tried alone."""

_NUMBERS = 2**22
"""Of the points of one pass together."""

KICK: Final = 3
"""Changes at random, after as many rounds without a gain."""


class Walk(ABC):
    """The images (n,) that are still searched: which of the batch they are (`at`), where each stands (`x`), what is
    `held` there, and what each may still ask (`left`)."""

    def __init__(self, f: Objective, x0: Tensor, threat: EventThreat, keys: Tensor, x: Tensor, queries: int) -> None:
        self.f, self.x0, self.keys, self.eps = f, x0, keys, threat.eps
        self.best = Best(x0, final=f.final)
        self.at = torch.arange(len(x0), device=x0.device)
        self.left = torch.full_like(self.at, queries)
        self.stuck = torch.zeros_like(self.at)  # rounds without a gain
        self.most = at_once(x0, _NUMBERS)
        self.salt = 0
        self.x, self.held = x.clone(), Score(x0.new_full((len(x0),), float("-inf")), self.at < 0)
        self._stand(self.at, x, self._ask(x, self.at))
        self._narrow()

    @abstractmethod
    def round(self, gradient: Tensor | None, width: int, number: int) -> None:
        """`width` changes, each alone; then the best of those that gain together; the best of all is where it goes on.

        gradient (n,*): of the loss where the images stand; None: chance alone says what is tried.
        """

    @abstractmethod
    def _possible(self, sets: Tensor) -> Tensor:
        """Which sets of this round's changes (n,s,width) lead anywhere that is admissible, (n,s)."""

    @abstractmethod
    def _points(self, sets: Tensor, owner: Tensor) -> Tensor:
        """Where sets of changes (m,width) lead, each from where the image `owner` (m,) stands: (m,*)."""

    def _try(self, width: int) -> None:
        """The changes of this round, `width` of them: alone, then together, and on from the best."""
        left = self.left.clone()
        alone = torch.eye(width, dtype=torch.bool, device=self.at.device).expand(len(self.at), -1, -1)
        found = self._score(alone)
        worth = gain(found, self.held)
        order = worth.argsort(dim=1, descending=True, stable=True)
        rank = order.argsort(dim=1, stable=True)
        few = [count for count in _TOGETHER if count <= width]
        sets = torch.stack([(rank < count) & (worth > 0) for count in few], 1) if few else alone[:, :0]
        sets &= sets.sum(2, keepdim=True) > 1
        more = self._score(sets)
        sets = torch.cat([alone, sets], 1)
        self._go(sets, Score(*(torch.cat(both, 1) for both in zip(found, more, strict=True))))
        self.left = torch.where(self.left == left, 0, self.left)  # who had nothing to ask never will
        self._narrow()

    def _score(self, sets: Tensor) -> Score:
        """Of sets of changes (n,s,width), in order while queries are left and none that leads nowhere: (n,s), else
        -inf."""
        asked = self._possible(sets)
        asked &= asked.cumsum(1) <= self.left[:, None]
        owner, which = asked.nonzero(as_tuple=True)
        loss = self.x.new_full(asked.shape, float("-inf"))
        fooled = torch.zeros_like(asked)
        for first in range(0, len(owner), self.most):
            some = slice(first, first + self.most)
            x = self._points(sets[owner[some], which[some]], owner[some])
            found = self._ask(x, owner[some])
            loss[owner[some], which[some]], fooled[owner[some], which[some]] = found
        return Score(loss, fooled)

    def _ask(self, x: Tensor, owner: Tensor) -> Score:
        self.salt += 1
        self.left -= torch.bincount(owner, minlength=len(self.left))
        return self.f.of(self.at[owner])(x, exact, self.salt)

    def _go(self, sets: Tensor, found: Score) -> None:
        """Each image to the best of its points: where none gains, to one that loses nothing, or after some rounds of
        that to any."""
        top, which = gain(found, self.held).max(1)
        kicked = self.stuck >= KICK
        self.stuck = torch.where((top > 0) | kicked, 0, self.stuck + 1)
        (on,) = (((top >= 0) | kicked) & torch.isfinite(top)).nonzero(as_tuple=True)
        if len(on):
            x = self._points(sets[on, which[on]], on)
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
