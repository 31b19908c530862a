"""SA-PGD: stable adaptive PGD, per-coordinate steps from running moments of the gradient (arXiv 2512.22522)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from spikeproof.attacks._ascent import StableAdaptive, ascend, checkpoints
from spikeproof.attacks._options import at_least_one
from spikeproof.errors import UsageError
from spikeproof.types import Estimator, Objective, Threat

__all__ = ["SAPGD"]


@dataclass(frozen=True)
class SAPGD:
    """L-inf. Steps of at most eps, halved for all images after each of APGD's checkpoints; random start in the ball.

    With fewer than some 50 steps the schedule halves almost every step and the attack freezes. Departures from the
    released code: an all-zero gradient moves nothing and is no NaN, and the mean is over all of an image's axes.
    """

    asks_gradient: ClassVar[bool] = True
    steps: int = 100
    restarts: int = 1

    def __post_init__(self) -> None:
        at_least_one(steps=self.steps, restarts=self.restarts)

    @property
    def label(self) -> str:
        return f"sa-pgd-{self.steps}"

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
        if threat.norm != "Linf":
            raise UsageError("the Linf threat for SA-PGD", threat.norm, mend="use pgd or apgd for other norms")
        marks = checkpoints(self.steps)
        return ascend(
            f,
            x0,
            threat,
            estimator,
            keys,
            steps=self.steps,
            length=lambda k: threat.eps * 0.5 ** sum(mark <= k for mark in marks),
            direction=StableAdaptive,
            start=threat.sample,
            given=start,
            restarts=self.restarts,
        )
