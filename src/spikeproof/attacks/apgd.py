"""APGD: PGD that finds its own step size, per image, and goes back to the best point when it stalls (AutoAttack)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, product
from typing import ClassVar

import torch
from torch import Tensor

from spikeproof.attacks import _apgd_l1
from spikeproof.attacks._ascent import checkpoints
from spikeproof.attacks._best import Best, Part
from spikeproof.attacks._options import at_least_one, check_targets, ranks
from spikeproof.errors import UsageError
from spikeproof.tensors import exact, fold, normal, per_image, uniform
from spikeproof.types import Estimator, Objective, Threat

__all__ = ["APGD"]


@dataclass(frozen=True)
class APGD:
    """Croce and Hein, "Reliable evaluation of adversarial robustness ..." (ICML 2020).

    x[k+1] = P(x[k] + a (P(x[k] + eta dir(g)) - x[k]) + (1 - a) (x[k] - x[k-1])), a = 1 at first, then 0.75; eta starts
    at 2 eps. At a checkpoint an image's eta is halved, and it returns to its best point, where (1) the loss rose in at
    most 75 % of the window's steps, or (2) eta was not halved at the checkpoint before and the best loss has not risen
    since. L1 has a search of its own (`_apgd_l1`). The loss (CE or DLR) is the evaluation's.

    targets: 0 is untargeted; n is APGD-T, one run for each of the n likeliest wrong classes by the clean logits, on the
    targeted form of the loss (AutoAttack: DLR, 9). Costs steps + 1 gradients a restart and target, two more in L1;
    given a start, from which each target's first run begins, L1 costs one forward beside them.
    """

    asks_gradient: ClassVar[bool] = True
    steps: int = 100
    restarts: int = 1
    targets: int = 0

    def __post_init__(self) -> None:
        at_least_one(steps=self.steps, restarts=self.restarts)
        check_targets(self.targets)

    @property
    def label(self) -> str:
        return f"apgd-{'t-' if self.targets else ''}{self.steps}"

    def __call__(
        self,
        f: Objective,
        x0: Tensor,
        threat: Threat,
        estimator: Estimator,
        keys: Tensor,
        *,
        start: Tensor | None = None,
    ) -> Tensor:
        if threat.norm not in ("Linf", "L2", "L1"):
            raise UsageError("a threat of APGD", threat.norm, valid=["Linf", "L2", "L1"])
        climb = _apgd_l1.climb if threat.norm == "L1" else _climb
        aims = [f.aimed(rank) for rank in ranks(f, self.targets)] if self.targets else [f]
        # Losses towards two classes do not compare; what is fooled is kept, whatever the others reach.
        best = Best(x0, final=f.final)
        given = None if start is None else threat.project(start, x0)
        if given is not None and threat.norm == "L1":  # whose climb offers nothing of the wider balls it begins in
            with torch.no_grad():
                best.offer(given, aims[0](given, exact, 0))
        for run, (aim, restart) in enumerate(product(aims, range(self.restarts))):
            part = best.standing(aim, x0)
            if not len(part.at):
                break
            if given is None or restart > 0:
                x = self._start(part.x0, threat, fold(keys, f"apgd {run}")[part.at])
            else:
                x = given[part.at]
            climb(part, x, threat, estimator, best, count(run * (self.steps + 3)), self.steps)
        return best.x

    @staticmethod
    def _start(x0: Tensor, threat: Threat, keys: Tensor) -> Tensor:
        """On the ball's surface: for L-inf at least one coordinate at +-eps, for L2 a random direction. For L1 far
        outside: its search projects it into the ball of its own start."""
        shape = x0.shape[1:]
        if threat.norm == "Linf":
            t = 2.0 * uniform(keys, shape).to(x0) - 1.0
            t = t / per_image(t, t.flatten(1).abs().amax(1))
        elif threat.norm == "L2":
            t = threat.ascend(normal(keys, shape).to(x0))
        else:
            return x0 + normal(keys, shape).to(x0)
        return threat.project(x0 + threat.eps * t, x0)


def _climb(
    part: Part,
    x: Tensor,
    threat: Threat,
    estimator: Estimator,
    best: Best,
    salts: Iterator[int],
    steps: int,
) -> None:
    """One restart from x; every point met is offered to `best`. What follows is per image, shape (n,) or (n,*)."""
    score, gradient, carry = estimator(part.f, x, estimator.init(x), next(salts))
    best.offer(x, score, part.at)
    top, top_x, top_gradient = score.loss, x, gradient  # of this restart
    eta = torch.full_like(score.loss, 2.0 * threat.eps)
    halved = torch.ones_like(score.fooled)
    risen = torch.zeros_like(score.loss)  # steps of this window in which the loss rose
    top_at_mark, loss, older, window_start = top, score.loss, x, 0
    marks = set(checkpoints(steps))
    for k in range(steps):
        if (on := best.going_on(part.at)) is not None:
            if not len(on):
                return
            part, carry = part.of(on), estimator.of(carry, on)
            x, older, gradient, loss, risen, eta, halved = (
                each[on] for each in (x, older, gradient, loss, risen, eta, halved)
            )
            top, top_x, top_gradient, top_at_mark = (each[on] for each in (top, top_x, top_gradient, top_at_mark))
        a = 1.0 if k == 0 else 0.75
        ahead = threat.project(x + per_image(x, eta) * threat.ascend(gradient), part.x0)
        new = threat.project(x + a * (ahead - x) + (1.0 - a) * (x - older), part.x0)
        older, x = x, new
        score, gradient, carry = estimator(part.f, x, carry, next(salts))
        best.offer(x, score, part.at)
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
