"""EOT: the mean gradient over several draws of whatever is random, and over a neighbourhood where one is given."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spikeproof.errors import UsageError
from spikeproof.estimators._backward import backward
from spikeproof.tensors import exact, fold, uniform
from spikeproof.types import Carry, Objective, Rule, Score

__all__ = ["EOT"]


@dataclass(frozen=True)
class EOT:
    """Expectation over transformation (Athalye et al. 2018): the mean of `draws` gradients at x, each on fresh noise.

    Fresh is what the salt freshens: spikes of a stochastic encoder, the secants through a code. radius > 0, in units of
    [0,1], also moves each draw by its own uniform noise of +-radius, clipped to the box: zeros of one point are filled
    by its neighbours. The score's loss is the mean over the draws; `fooled` is said of x itself, never of a neighbour.
    Costs `draws` gradients, and the forward of one query more where radius > 0.
    """

    rule: Rule
    draws: int = 10
    radius: float = 0.0

    def __post_init__(self) -> None:
        if self.draws < 1 or not 0 <= self.radius <= 1:
            raise UsageError("draws >= 1 and radius in [0,1]", f"draws={self.draws}, radius={self.radius}")

    def init(self, x: Tensor) -> Carry:
        return None

    def of(self, carry: Carry, index: Tensor) -> Carry:
        return None

    def __call__(self, f: Objective, x: Tensor, carry: Carry, salt: int) -> tuple[Score, Tensor, Carry]:
        """Score, mean gradient (B,*), carry. Raises SpikeproofError as the white box does, in any draw."""
        first = salt * self.draws  # no two steps share a salt
        score, gradient = backward(f, self._moved(f, x, first), self.rule, first)
        loss = score.loss
        for i in range(1, self.draws):
            other, slope = backward(f, self._moved(f, x, first + i), self.rule, first + i)
            # A running mean: draws that are all the same give back exactly the one.
            loss = loss + (other.loss - loss) / (i + 1)
            gradient = gradient + (slope - gradient) / (i + 1)
        fooled = self._fooled(f, x, first) if self.radius else score.fooled
        return Score(loss, fooled), gradient, carry

    def _moved(self, f: Objective, x: Tensor, salt: int) -> Tensor:
        """The point of one draw; the slope there counts for x, also where the box has clipped it."""
        if not self.radius:
            return x
        noise = 2.0 * uniform(fold(f.keys, f"neighbour {salt}"), x.shape[1:]).to(x) - 1.0
        return (x.detach() + self.radius * noise).clamp(0.0, 1.0)

    @staticmethod
    @torch.no_grad()
    def _fooled(f: Objective, x: Tensor, salt: int) -> Tensor:
        return f(x, exact, salt).fooled
