"""The best point met during an attack, kept per image."""

from __future__ import annotations

import torch
from torch import Tensor

from spikeproof.tensors import per_image
from spikeproof.types import Score

__all__ = ["Best"]


class Best:
    """Fooled before not fooled, then the highest loss: a later iterate never overwrites a success with a failure."""

    def __init__(self, x0: Tensor) -> None:
        self.x = x0.clone()
        self._loss = x0.new_full((len(x0),), float("-inf"))
        self._fooled = torch.zeros(len(x0), dtype=torch.bool, device=x0.device)

    def offer(self, x: Tensor, score: Score) -> None:
        """Take x (B,*) where it is better than what is held."""
        better = (score.fooled & ~self._fooled) | ((score.fooled == self._fooled) & (score.loss > self._loss))
        self.x = torch.where(per_image(x, better), x, self.x)
        self._loss = torch.where(better, score.loss, self._loss)
        self._fooled = self._fooled | score.fooled
