"""SNN-RAT's retraction: after every step the weights are drawn towards orthogonal matrices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from spikeproof.defences._added import Added
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.types import Knob

__all__ = ["RAT"]


@dataclass(frozen=True, kw_only=True)
class RAT(Added):
    """W <- (1 + b) W - b W W^T W after every optimiser step, b = strength; W of each convolution and linear layer,
    flattened to outputs x rest.

    Ding et al., "SNN-RAT: Robustness-enhanced Spiking Neural Network through Regularized Adversarial Training" (NeurIPS
    2022); its adversarial training is {name: rat, base: {name: adversarial}}, with recipe.weight_decay 0. Singular
    values move as s -> s (1 + b - b s^2), towards 1 where s < sqrt((2 + b) / b), and away for ever beyond: such a
    weight is refused, with SpikeproofError. b is 5e-4 (the command line), 2e-3 (the function) or 4e-3 (a later paper),
    over some 10^5 steps; a value of 0.1 takes some 4/b steps, so that a training of a few hundred needs 0.06 and more.
    Departures:
    all rows of wide linear layers (the released code draws 30 % of 200 rows and more), and no shortcut coefficients,
    which these networks do not have. Batch-norm behind a convolution leaves the scale of each channel free.
    """

    KNOB: ClassVar[Knob] = Knob("strength", (0.016, 0.03, 0.06, 0.125, 0.25))

    strength: float = 0.004

    def __post_init__(self) -> None:
        if not 0 <= self.strength < math.inf:
            raise UsageError("a finite strength >= 0", self.strength)

    @torch.no_grad()
    def after_step(self, victim: nn.Module) -> None:
        super().after_step(victim)
        b = self.strength
        if b == 0:
            return
        for name, module in victim.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                w = module.weight.flatten(1)
                self._check(name, w)
                module.weight.copy_(((1 + b) * w - b * (w @ w.T @ w)).view_as(module.weight))

    def _check(self, name: str, w: Tensor) -> None:
        limit = math.sqrt((2 + self.strength) / self.strength)
        # The Frobenius norm bounds the largest singular value from above, and is cheap.
        if float(w.norm()) >= limit and (largest := float(torch.linalg.matrix_norm(w, 2))) >= limit:
            raise SpikeproofError(
                f"singular values below {limit:.4g} in {name}, from where the retraction converges",
                f"{largest:.4g} at strength {self.strength}",
                mend="lower the defence's strength or the learning rate",
            )
