"""White box: one backward pass through the network under one rule."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spikeproof.types import Carry, Objective, Rule, Score, SpikeproofError, refusal

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
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            score = f(x, self.rule, salt)
            total = score.loss.sum()  # in here, or there is no way back under the caller's no_grad
        gradient = torch.autograd.grad(total, x, allow_unused=True)[0] if total.requires_grad else None
        if gradient is None:
            raise SpikeproofError(
                refusal(
                    "a loss that depends on the attacked input",
                    "a cut graph: an encoder or a layer detaches its input",
                    mend="use an encoder with a pixel gradient (spikeproof parts), or the surface 'encoded'",
                )
            )
        if not bool(torch.isfinite(gradient).all()):
            raise SpikeproofError(
                refusal("finite gradients", "NaN or infinity in the gradient of the attacked loss",
                        mend="a NaN image never counts as broken: look at the rule's sharpness and the weights")
            )
        return Score(score.loss.detach(), score.fooled), gradient, carry
