"""Who is still attacked, and the best point met so far, per image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spikeproof.tensors import per_image
from spikeproof.types import Objective, Score

__all__ = ["Best", "Part"]


@dataclass(frozen=True)
class Part:
    """The images that a run works on: which of the batch they are (n,), their objective, their clean points (n,*)."""

    at: Tensor
    f: Objective
    x0: Tensor

    def of(self, on: Tensor) -> Part:
        """Some of them: on (m,) int64 into them."""
        return Part(self.at[on], self.f.of(on), self.x0[on])


class Best:
    """Fooled before not fooled, then the highest loss: a later iterate never overwrites a success with a failure.

    final: the first success is kept as it is, and within a run its image is not worked on any more.
    """

    def __init__(self, x0: Tensor, *, final: bool = False) -> None:
        self.x = x0.clone()
        self._loss = x0.new_full((len(x0),), float("-inf"))
        self._fooled = torch.zeros(len(x0), dtype=torch.bool, device=x0.device)
        self._final = final

    def offer(self, x: Tensor, score: Score, at: Tensor | None = None) -> None:
        """Take x (n,*) of the images `at` (n,), None for all, where it is better than what is held."""
        at = torch.arange(len(self.x), device=x.device) if at is None else at
        loss, fooled = self._loss[at], self._fooled[at]
        better = (score.fooled & ~fooled) | ((score.fooled == fooled) & (score.loss > loss))
        if self._final:
            better = better & ~fooled
        self.x[at] = torch.where(per_image(x, better), x, self.x[at])
        self._loss[at] = torch.where(better, score.loss, loss)
        self._fooled[at] = fooled | score.fooled

    def standing(self, f: Objective, x0: Tensor) -> Part:
        """What a new run has to work on, of an objective on the whole batch: all, or where a success is final for the
        objective, what no run before has fooled, which may be nothing."""
        part = Part(torch.arange(len(x0), device=x0.device), f, x0)
        return part.of((~self._fooled).nonzero()[:, 0]) if f.final and bool(self._fooled.any()) else part

    def going_on(self, at: Tensor) -> Tensor | None:
        """Which of the images `at` (n,) are still worked on, as an index (m,) into them; None: all."""
        if not self._final:
            return None  # asked at every step: on an accelerator the look below would wait for it
        fallen = self._fooled[at]
        return (~fallen).nonzero()[:, 0] if bool(fallen.any()) else None
