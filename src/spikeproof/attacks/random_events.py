"""Random events: the best of many random sets of as many moves as the threat allows; what every attack must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spikeproof.attacks._best import Best
from spikeproof.attacks._events import event_threat
from spikeproof.attacks._options import at_least_one
from spikeproof.tensors import exact, fold
from spikeproof.types import Estimator, Objective, Threat

__all__ = ["RandomEvents"]


@dataclass(frozen=True)
class RandomEvents:
    """`draws` samples of the threat, one forward each (`scene.COMMON_DRAWS` where the encoder draws). A given start is
    the first draw."""

    asks_gradient: ClassVar[bool] = False
    draws: int = 100

    def __post_init__(self) -> None:
        at_least_one(draws=self.draws)

    @property
    def label(self) -> str:
        return f"random-{self.draws}"

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
        moves = event_threat(threat, "random events")
        best = Best(x0, final=f.final)
        part = best.standing(f, x0)
        for draw in range(self.draws):
            if draw or start is None:
                x = moves.sample(part.x0, fold(keys, f"draw {draw}")[part.at])
            else:
                x = moves.project(start, part.x0)
            best.offer(x, part.f(x, exact, draw), part.at)
            if (on := best.going_on(part.at)) is not None:
                part = part.of(on)
            if not len(part.at):
                break
        return best.x
