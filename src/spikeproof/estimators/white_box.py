"""White box: one backward pass through the network under one rule."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spikeproof.estimators._backward import backward
from spikeproof.tensors import fold, per_image, signs
from spikeproof.types import Carry, Objective, Rule, Score

__all__ = ["WhiteBox"]


@dataclass(frozen=True)
class WhiteBox:
    """The gradient of the attacked loss at x under `rule`; a zero gradient is a finding and passes, NaN is refused.

    fill_zeros: coordinates whose gradient is exactly 0 get a random sign, fresh at every step, at a magnitude that
    vanishes beside every other: a sign step then explores them, a step along the gradient itself does not notice. Where
    the whole gradient of an image is 0, its step is a random corner. Not for measuring how many zeros there are.
    """

    rule: Rule
    fill_zeros: bool = False

    def init(self, x: Tensor) -> Carry:
        return None

    def of(self, carry: Carry, index: Tensor) -> Carry:
        return None

    def __call__(self, f: Objective, x: Tensor, carry: Carry, salt: int) -> tuple[Score, Tensor, Carry]:
        """Score, gradient (B,*) of each image's own loss, carry.

        Raises SpikeproofError where the graph is cut between the loss and x, or a gradient is not finite.
        """
        score, gradient = backward(f, x, self.rule, salt)
        if self.fill_zeros:
            gradient = _filled(gradient, fold(f.keys, f"fill {salt}"))
        return score, gradient, carry


def _filled(gradient: Tensor, keys: Tensor) -> Tensor:
    """No exact zero is left: gradient (B,*), keys (B,) -> (B,*)."""
    size = gradient.abs()
    smallest = size.where(size > 0, torch.inf).flatten(1).amin(1)
    # 1e-35 is no subnormal number of float32 yet, and stays above 0 when an attack divides it by a mean below 1e9.
    least = (1e-30 * smallest.where(smallest < torch.inf, 1.0)).clamp(min=1e-35)
    random = signs(keys, gradient.shape[1:]).to(gradient)
    return torch.where(gradient == 0, per_image(gradient, least) * random, gradient)
