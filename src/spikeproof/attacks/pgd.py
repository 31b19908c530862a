"""PGD: many small projected steps, from random starts (Madry et al. 2018); without a start it is BIM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from spikeproof.attacks._ascent import Steepest, ascend
from spikeproof.attacks._options import at_least_one
from spikeproof.errors import UsageError
from spikeproof.types import Estimator, Objective, Threat

__all__ = ["PGD"]


@dataclass(frozen=True)
class PGD:
    """x <- project(x + step_size * ascend(gradient)), per image.

    steps >= 1; step_size in the threat's units, None for 2.5 eps / steps; restarts >= 1, each with its own start;
    keep: 'best' returns the best point met (fooled before not fooled, then the highest loss), 'last' the last iterate
    of the last restart, as much published code does.
    """

    asks_gradient: ClassVar[bool] = True
    steps: int = 20
    step_size: float | None = None
    restarts: int = 1
    random_start: bool = True
    keep: Literal["best", "last"] = "best"

    def __post_init__(self) -> None:
        at_least_one(steps=self.steps, restarts=self.restarts)
        if self.step_size is not None and not self.step_size > 0:
            raise UsageError("step_size > 0, or None for 2.5 eps / steps", self.step_size)
        if self.keep not in ("best", "last"):
            raise UsageError("what PGD keeps", repr(self.keep), valid=["best", "last"])

    @property
    def label(self) -> str:
        return f"pgd-{self.steps}"

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
        step = 2.5 * threat.eps / self.steps if self.step_size is None else self.step_size
        return ascend(
            f,
            x0,
            threat,
            estimator,
            keys,
            steps=self.steps,
            length=lambda k: step,
            direction=lambda: Steepest(threat),
            start=lambda x, k: threat.sample(x, k) if self.random_start else x,
            given=start,
            restarts=self.restarts,
            keep_best=self.keep == "best",
        )
