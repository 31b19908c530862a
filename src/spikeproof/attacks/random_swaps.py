"""Random swaps: moves of events exchanged by chance and kept where that gains; no gradient.

After Croce, Andriushchenko, Singh, Flammarion and Hein, "Sparse-RS: a versatile framework for query-efficient sparse
black-box adversarial attacks" (AAAI 2022). Departures: any threat of whole events, and the swaps of a round that gain
are made together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spikeproof.attacks._events import event_threat
from spikeproof.attacks._options import at_least_one
from spikeproof.attacks._searches import walk_from
from spikeproof.tensors import fold
from spikeproof.types import Estimator, Objective, Threat

__all__ = ["RandomSwaps"]


@dataclass(frozen=True)
class RandomSwaps:
    """queries >= 1: points asked an image, none more; `width` swaps alone in a round, then those that gain together.

    Without `start` it begins at a random point with all moves made. Use it with the margin loss.
    """

    asks_gradient: ClassVar[bool] = False
    queries: int = 1000
    width: int = 16

    def __post_init__(self) -> None:
        at_least_one(queries=self.queries, width=self.width)

    @property
    def label(self) -> str:
        return f"random-swaps-{self.queries}"

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
        x = moves.sample(x0, fold(keys, "swap start")) if start is None else moves.project(start, x0)
        walk = walk_from(f, x0, moves, keys, x, self.queries)
        number = 0
        while len(walk.at) and moves.eps > 0:
            walk.round(None, self.width, number)
            number += 1
        return walk.best.x
