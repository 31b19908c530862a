"""Swap search: moves of events exchanged for better ones, each tried on the network; on from where others ended.

The candidates are those that a gradient promises most of, as in the sparse dynamic attack (Lun et al., "Towards
effective and sparse adversarial attack on spiking neural networks via breaking invisible surrogate gradients", CVPR
2025), and each is judged by what it does. Departures: it starts at the best point of another attack, at a full budget;
a move is exchanged, not only added; and the gradient is that of the point where it stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spikeproof.attacks._events import event_threat
from spikeproof.attacks._options import at_least_one
from spikeproof.attacks._searches import walk_from
from spikeproof.types import Estimator, Objective, Threat

__all__ = ["SwapSearch"]


@dataclass(frozen=True)
class SwapSearch:
    """queries >= 1: points asked an image, none more, besides one gradient a round. A round: `width` swaps alone, then
    the best 2, 3, 5, ... of those that gain together; the best of all is where the image goes on. Use it with the
    margin loss, whose boundary is 0. Without `start` it begins at the clean grid.
    """

    asks_gradient: ClassVar[bool] = True
    queries: int = 1000
    width: int = 32

    def __post_init__(self) -> None:
        at_least_one(queries=self.queries, width=self.width)

    @property
    def label(self) -> str:
        return f"swaps-{self.queries}"

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
        moves = event_threat(threat, "a search over swaps")
        walk = walk_from(f, x0, moves, keys, x0 if start is None else moves.project(start, x0), self.queries)
        number = 0
        while len(walk.at) and moves.eps > 0:
            gradient = estimator(f.of(walk.at), walk.x, estimator.init(walk.x), number)[1]
            walk.round(gradient, self.width, number)
            number += 1
        return walk.best.x
