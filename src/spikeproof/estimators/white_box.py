"""White box: one backward pass through the network under one rule."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from spikeproof.estimators._backward import backward
from spikeproof.types import Carry, Objective, Rule, Score

__all__ = ["WhiteBox"]


@dataclass(frozen=True)
class WhiteBox:
    """The gradient of the attacked loss at x under `rule`; a zero gradient is a finding and passes, NaN is refused."""

    rule: Rule

    def init(self, x: Tensor) -> Carry:
        return None

    def __call__(self, f: Objective, x: Tensor, carry: Carry, salt: int) -> tuple[Score, Tensor, Carry]:
        """Score, gradient (B,*) of each image's own loss, carry.

        Raises SpikeproofError where the graph is cut between the loss and x, or a gradient is not finite.
        """
        score, gradient = backward(f, x, self.rule, salt)
        return score, gradient, carry
