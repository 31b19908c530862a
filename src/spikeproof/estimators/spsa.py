"""SPSA: the slope between two points of the loss along random signs; forwards alone, no surrogate at all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.tensors import exact, fold, per_image, signs
from spikeproof.types import Carry, Objective, Rule, Score

__all__ = ["SPSA"]


@dataclass(frozen=True)
class SPSA:
    """g = mean_i [loss(x + c r_i) - loss(x - c r_i)] / (2 c) r_i, r_i random signs (Spall 1992; Uesato et al. 2018).

    c is `radius`, in units of [0,1]: behind a code of grey levels it must span one, 1/255. Both points are clipped to
    the box, and each coordinate is divided by what it really moved: unbiased where the loss is linear. Both see one
    draw of a stochastic encoder. `rule` is not used. Costs 2 draws + 1 forwards; the score is the one at x.
    """

    rule: Rule | None = None
    draws: int = 64
    radius: float = 2 / 255

    def __post_init__(self) -> None:
        if self.draws < 1 or not 0 < self.radius <= 1:
            raise UsageError("draws >= 1 and radius in (0,1]", f"draws={self.draws}, radius={self.radius}")

    def init(self, x: Tensor) -> Carry:
        return None

    def of(self, carry: Carry, index: Tensor) -> Carry:
        return None

    @torch.no_grad()
    def __call__(self, f: Objective, x: Tensor, carry: Carry, salt: int) -> tuple[Score, Tensor, Carry]:
        """Score, estimated gradient (B,*), carry. Raises SpikeproofError where it is not finite."""
        first = salt * self.draws  # no two steps share a salt
        score, gradient = f(x, exact, first), torch.zeros_like(x)
        above, below = (x + self.radius).clamp(max=1.0), (x - self.radius).clamp(min=0.0)
        for i in range(first, first + self.draws):
            r = signs(fold(f.keys, f"spsa {i}"), x.shape[1:]).to(x)
            up = f(torch.where(r > 0, above, below), exact, i).loss
            down = f(torch.where(r > 0, below, above), exact, i).loss
            gradient += per_image(r, up - down) * r
        gradient /= self.draws * (above - below)
        if not bool(torch.isfinite(gradient).all()):
            raise SpikeproofError(
                "finite gradients",
                "NaN or infinity in a difference of the attacked loss",
                mend="a NaN image never counts as broken: look at the loss and the weights",
            )
        return score, gradient, carry
