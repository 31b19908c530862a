"""R+FGSM: a random step of length alpha, then one gradient step of eps - alpha (Tramer et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from spikeproof.attacks._options import check_ball
from spikeproof.errors import UsageError
from spikeproof.tensors import fold, normal
from spikeproof.types import Estimator, Objective, Threat

__all__ = ["RFGSM"]


@dataclass(frozen=True)
class RFGSM:
    """random_share: alpha / eps, in (0,1); 1/2 in the paper. The first step leaves the sharp curvature at x0."""

    asks_gradient: ClassVar[bool] = True
    random_share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.random_share < 1:
            raise UsageError("random_share in (0,1)", self.random_share)

    @property
    def label(self) -> str:
        return "rfgsm"

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
        alpha = self.random_share * threat.eps
        noise = normal(fold(keys, "rfgsm"), x0.shape[1:])
        x = threat.project(x0 + alpha * threat.ascend(noise) if start is None else start, x0)
        _, gradient, _ = estimator(f, x, estimator.init(x), 0)
        return threat.project(x + (threat.eps - alpha) * threat.ascend(gradient), x0)
