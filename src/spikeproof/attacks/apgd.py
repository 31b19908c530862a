"""APGD: PGD that finds its own step size, per image, and goes back to the best point when it stalls (AutoAttack)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spikeproof.attacks._ascent import checkpoints
from spikeproof.attacks._best import Best
from spikeproof.tensors import fold, normal, per_image, uniform
from spikeproof.types import Estimator, Objective, Threat, UsageError, refusal

__all__ = ["APGD"]


@dataclass(frozen=True)
class APGD:
    """Croce and Hein, "Reliable evaluation of adversarial robustness ..." (ICML 2020); L-inf and L2.

    x[k+1] = P(x[k] + a (P(x[k] + eta dir(g)) - x[k]) + (1 - a) (x[k] - x[k-1])), a = 1 at first, then 0.75; eta starts
    at 2 eps. At a checkpoint an image's eta is halved, and it returns to its best point, where (1) the loss rose in at
    most 75 % of the window's steps, or (2) eta was not halved at the checkpoint before and the best loss has not risen
    since. The loss (CE or DLR) is the evaluation's. Costs steps + 1 gradients a restart.
    """

    steps: int = 100
    restarts: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1:
            raise UsageError(refusal("steps >= 1 and restarts >= 1", f"steps={self.steps}, restarts={self.restarts}"))

    def __call__(self, f: Objective, x0: Tensor, threat: Threat, estimator: Estimator, keys: Tensor) -> Tensor:
        if threat.norm not in ("Linf", "L2"):
            raise UsageError(refusal("a threat of APGD", threat.norm, valid=["Linf", "L2"]))
        best = Best(x0)
        for restart in range(self.restarts):
            start = self._start(x0, threat, fold(keys, f"apgd {restart}"))
            self._run(f, x0, start, threat, estimator, best, restart * (self.steps + 1))
        return best.x

    @staticmethod
    def _start(x0: Tensor, threat: Threat, keys: Tensor) -> Tensor:
        """On the ball's surface: for L-inf at least one coordinate at +-eps, for L2 a random direction."""
        shape = x0.shape[1:]
        if threat.norm == "Linf":
            t = 2.0 * uniform(keys, shape).to(x0) - 1.0
            t = t / per_image(t, t.flatten(1).abs().amax(1))
        else:
            t = threat.ascend(normal(keys, shape).to(x0))
        return threat.project(x0 + threat.eps * t, x0)

    def _run(
        self,
        f: Objective,
        x0: Tensor,
        x: Tensor,
        threat: Threat,
        estimator: Estimator,
        best: Best,
        salt: int,
    ) -> None:
        """One restart from x; every point met is offered to `best`. What follows is per image, shape (B,) or (B,*)."""
        score, gradient, carry = estimator(f, x, estimator.init(x), salt)
        best.offer(x, score)
        top, top_x, top_gradient = score.loss, x, gradient  # of this restart
        eta = torch.full_like(score.loss, 2.0 * threat.eps)
        halved = torch.ones_like(score.fooled)
        risen = torch.zeros_like(score.loss)  # steps of this window in which the loss rose
        top_at_mark, loss, older, window_start = top, score.loss, x, 0
        marks = set(checkpoints(self.steps))
        for k in range(self.steps):
            a = 1.0 if k == 0 else 0.75
            ahead = threat.project(x + per_image(x, eta) * threat.ascend(gradient), x0)
            new = threat.project(x + a * (ahead - x) + (1.0 - a) * (x - older), x0)
            older, x = x, new
            score, gradient, carry = estimator(f, x, carry, salt + k + 1)
            best.offer(x, score)
            risen = risen + (score.loss > loss)
            loss = score.loss
            better = loss > top
            top = torch.where(better, loss, top)
            top_x = torch.where(per_image(x, better), x, top_x)
            top_gradient = torch.where(per_image(x, better), gradient, top_gradient)
            if k + 1 in marks:
                window = k + 1 - window_start
                stalled = (risen <= 0.75 * window) | (~halved & (top <= top_at_mark))
                eta = torch.where(stalled, eta / 2.0, eta)
                x = torch.where(per_image(x, stalled), top_x, x)
                gradient = torch.where(per_image(x, stalled), top_gradient, gradient)
                loss = torch.where(stalled, top, loss)
                halved, top_at_mark, window_start = stalled, top, k + 1
                risen = torch.zeros_like(risen)
