"""Input-gradient penalties: a norm of the gradient at the image, of a scalar of the logits, added to the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, get_args

from torch import Tensor

from spikeproof.defences._added import Added
from spikeproof.defences._slope import Form, How, Norm, Scalar, penalty
from spikeproof.defences._watched import Seen
from spikeproof.errors import UsageError
from spikeproof.types import Craft, Knob, Rule, VictimLike

__all__ = ["GradientPenalty"]


@dataclass(frozen=True, kw_only=True)
class GradientPenalty(Added):
    """loss + weight * mean over the batch of the norm of grad f at the image, or of its square.

    scalar f: 'ce' (Ross and Doshi-Velez, AAAI 2018, with l2_squared), 'probability' of the label, 'margin' z_y - z_j,
    or 'pair', sigmoid(z_y - z_j) (SR); j the runner-up. norm: 'l1', 'l2', 'l1_squared', 'l2_squared'; l1 is the dual of
    an L-inf budget (Simon-Gabriel et al., ICML 2019). form: 'finite_difference' over a step h a pixel (Finlay and
    Oberman, 2019), or 'double_backprop', for which the rule must have fused: false. The finite difference is a jump of
    the deployed network, the other the slope of its surrogate: where they differ, the surrogate misjudges the
    landscape. x is whatever the defence that it stands on trains on; the penalty of several forwards is their mean.
    """

    KNOB: ClassVar[Knob] = Knob("weight", (0.001, 0.003, 0.01, 0.02, 0.05))

    weight: float = 0.01
    scalar: Scalar = "ce"
    norm: Norm = "l1"
    form: Form = "finite_difference"
    h: float = 0.01

    def __post_init__(self) -> None:
        for name, choices in (("scalar", Scalar), ("norm", Norm), ("form", Form)):
            if getattr(self, name) not in get_args(choices):
                raise UsageError(f"a {name}", repr(getattr(self, name)), valid=get_args(choices))
        if not 0 <= self.weight < math.inf or not 0 < self.h < 1:
            raise UsageError("a finite weight >= 0 and h in (0,1)", f"weight={self.weight}, h={self.h}")

    def __call__(self, victim: VictimLike, x: Tensor, y: Tensor, rule: Rule, keys: Tensor, craft: Craft) -> Tensor:
        seen = Seen(victim)
        loss = self.base_loss(seen, x, y, rule, keys, craft)
        how = How(scalar=self.scalar, norm=self.norm, form=self.form, h=self.h)
        return loss + self.weight * penalty(victim, seen.forwards, y, rule, how)
