"""SR: sparsity regularisation, a penalty on the input gradient's l1 norm by a finite difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from spikeproof.defences._added import Added
from spikeproof.defences._slope import How, penalty
from spikeproof.defences._watched import Seen
from spikeproof.errors import UsageError
from spikeproof.types import Craft, Knob, Rule, VictimLike

__all__ = ["SR"]


@dataclass(frozen=True, kw_only=True)
class SR(Added):
    """loss + weight * mean over the batch of ((f(x + h v) - f(x)) / h)^2, v = sign(grad f(x)), about ||grad f||_1^2.

    Liu et al., "Enhancing Adversarial Robustness in SNNs with Sparse Gradients" (ICML 2024): f = sigmoid(z_y - z_j), j
    the runner-up at x, kept for both points; h = 0.01. v is a constant: no second derivative is taken. x is whatever
    the defence that it stands on trains on, so that on adversarial training it is the attacked image in both terms, as
    published; where that makes several forwards, the penalty is their mean. It is the member (pair, l1_squared,
    finite_difference) of `gradient_penalty`. Departures from the released code: x + h v is clipped to [0,1], as pixels
    outside do not exist, and f is a sigmoid, not a ratio of exponentials, which overflows. The published weight is not
    certain (the code's default is 0, a later paper's commands pass 10); weights act on the scale of the task.
    """

    KNOB: ClassVar[Knob] = Knob("weight", (0.0003, 0.001, 0.003, 0.01, 0.03))

    weight: float = 1.0
    h: float = 0.01

    def __post_init__(self) -> None:
        if not self.weight >= 0 or not 0 < self.h < 1:
            raise UsageError("weight >= 0 and h in (0,1)", f"weight={self.weight}, h={self.h}")

    def __call__(self, victim: VictimLike, x: Tensor, y: Tensor, rule: Rule, keys: Tensor, craft: Craft) -> Tensor:
        seen = Seen(victim)
        loss = self.base_loss(seen, x, y, rule, keys, craft)
        how = How(scalar="pair", norm="l1_squared", form="finite_difference", h=self.h)
        return loss + self.weight * penalty(victim, seen.forwards, y, rule, how)
