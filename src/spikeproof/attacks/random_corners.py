"""Random corners: the best of many random directions at full budget; no gradient, the least an attack must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spikeproof.attacks._best import Best
from spikeproof.attacks._options import check_ball
from spikeproof.errors import UsageError
from spikeproof.tensors import exact, fold, normal
from spikeproof.types import Estimator, Objective, Threat

__all__ = ["RandomCorners"]


@dataclass(frozen=True)
class RandomCorners:
    """x0 + eps * ascend(normal noise), projected, `draws` times; one forward each (`scene.COMMON_DRAWS` where the
    encoder draws). A given start is the first draw.

    In L-inf that is a random corner of the ball, in L2 a random direction, in L1 random signs on a few random pixels.
    """

    asks_gradient: ClassVar[bool] = False
    draws: int = 100

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise UsageError("draws >= 1", self.draws)

    @property
    def label(self) -> str:
        return f"corners-{self.draws}"

    @torch.no_grad()
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
        best = Best(x0, final=f.final)
        part = best.standing(f, x0)
        for draw in range(self.draws):
            corner = normal(fold(keys, f"corner {draw}")[part.at], x0.shape[1:]).to(x0)
            x = part.x0 + threat.eps * threat.ascend(corner) if draw or start is None else start
            x = threat.project(x, part.x0)
            best.offer(x, part.f(x, exact, draw), part.at)
            if (on := best.going_on(part.at)) is not None:
                part = part.of(on)
            if not len(part.at):
                break
        return best.x
