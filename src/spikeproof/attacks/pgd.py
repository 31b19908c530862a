"""PGD: many small projected steps, from random starts (Madry et al. 2018); without a start it is BIM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from spikeproof.attacks._best import Best
from spikeproof.tensors import exact, fold
from spikeproof.types import Estimator, Objective, Threat, UsageError, refusal

__all__ = ["PGD"]


@dataclass(frozen=True)
class PGD:
    """x <- project(x + step_size * ascend(gradient)), per image.

    steps >= 1; step_size in the threat's units, None for 2.5 eps / steps; restarts >= 1, each with its own start;
    keep: 'best' returns the best point met (fooled before not fooled, then the highest loss), 'last' the last iterate
    of the last restart, as much published code does.
    """

    steps: int = 20
    step_size: float | None = None
    restarts: int = 1
    random_start: bool = True
    keep: Literal["best", "last"] = "best"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1:
            raise UsageError(refusal("steps >= 1 and restarts >= 1", f"steps={self.steps}, restarts={self.restarts}"))
        if self.keep not in ("best", "last"):
            raise UsageError(refusal("what PGD keeps", repr(self.keep), valid=["best", "last"]))

    def __call__(self, f: Objective, x0: Tensor, threat: Threat, estimator: Estimator, keys: Tensor) -> Tensor:
        step = 2.5 * threat.eps / self.steps if self.step_size is None else self.step_size
        best = Best(x0)
        x = x0
        for restart in range(self.restarts):
            x = threat.sample(x0, fold(keys, f"pgd start {restart}")) if self.random_start else x0
            carry = estimator.init(x)
            for k in range(self.steps):
                # The salt differs in every call: fresh noise for stochastic encoders, fresh secants for codes.
                score, gradient, carry = estimator(f, x, carry, restart * (self.steps + 1) + k)
                best.offer(x, score)
                x = threat.project(x + step * threat.ascend(gradient), x0)
            if self.keep == "best":
                with torch.no_grad():
                    best.offer(x, f(x, exact, restart * (self.steps + 1) + self.steps))
        return best.x if self.keep == "best" else x
