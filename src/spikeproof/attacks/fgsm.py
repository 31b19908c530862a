"""FGSM: one full step along the steepest ascent (Goodfellow et al. 2015)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from spikeproof.attacks._options import check_ball
from spikeproof.types import Estimator, Objective, Threat

__all__ = ["FGSM"]


@dataclass(frozen=True)
class FGSM:
    """x0 + eps * ascend(gradient at x0), projected; or the same step from `start`. One gradient, deterministic."""

    asks_gradient: ClassVar[bool] = True

    @property
    def label(self) -> str:
        return "fgsm"

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
        check_ball(threat)
        x = x0 if start is None else threat.project(start, x0)
        _, gradient, _ = estimator(f, x, estimator.init(x), 0)
        return threat.project(x + threat.eps * threat.ascend(gradient), x0)
