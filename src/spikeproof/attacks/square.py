"""Square: score-based random search with square patches; it never asks for a gradient (Andriushchenko et al. 2020)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spikeproof.attacks._best import Best
from spikeproof.errors import UsageError
from spikeproof.tensors import exact, fold, integers, per_image, signs
from spikeproof.types import Estimator, Objective, Score, Threat

__all__ = ["Square"]

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries, of 10,000, at which the share of pixels that a patch covers is halved."""


@dataclass(frozen=True)
class Square:
    """L-inf on images (B,C,H,W). queries >= 1: forwards per image (times
    `scene.COMMON_DRAWS` where the encoder draws); p: the first patch's share of the pixels.

    Start: vertical stripes of +-eps, or what is given. Each query: a square at a random place, one random sign a
    channel, 2 eps added and clipped to the ball; taken where the loss rises, and with chance 1/2 where it is equal, as
    scores made of spike counts often are. The place and the signs are each image's own. Use it with the margin loss.
    The schedule is rescaled from 10,000 queries to the number given, as in the paper.
    """

    asks_gradient: ClassVar[bool] = False
    queries: int = 500
    p: float = 0.8

    def __post_init__(self) -> None:
        if self.queries < 1 or not 0 < self.p <= 1:
            raise UsageError("queries >= 1 and p in (0,1]", f"queries={self.queries}, p={self.p}")

    def side(self, query: int, height: int, width: int) -> int:
        """Edge of the patch in pixels at a query 0..queries-1."""
        scaled = 10_000 * query / self.queries
        share = self.p * 0.5 ** sum(scaled > mark for mark in _HALVINGS)
        return int(min(max(round(math.sqrt(share * height * width)), 1), height, width))

    @property
    def label(self) -> str:
        return f"square-{self.queries}"

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
        if threat.norm != "Linf" or x0.dim() != 4:
            raise UsageError(
                "the Linf threat on images (B,C,H,W) for Square", f"{threat.norm}, shape {tuple(x0.shape)}"
            )
        _, channels, height, width = x0.shape
        stripes = signs(fold(keys, "square stripes"), (channels, 1, width)).to(x0)
        x = threat.project(x0 + threat.eps * stripes if start is None else start, x0)
        held = f(x, exact, 0)
        best = Best(x0, final=f.final)
        part = best.standing(f, x0)
        best.offer(x, held)
        for query in range(1, self.queries):
            if (on := best.going_on(part.at)) is not None:
                part, x, held = part.of(on), x[on], Score(held.loss[on], held.fooled[on])
            if not len(x):
                break
            here = fold(keys, f"square {query}")[part.at]
            side = self.side(query, height, width)
            patch = self._patch(here, side, height, width)
            sign = signs(fold(here, "sign"), (channels, 1, 1)).to(x0)
            tried = threat.project(x + 2.0 * threat.eps * sign * patch.to(x0), part.x0)
            score = part.f(tried, exact, query)
            best.offer(tried, score, part.at)
            coin = signs(fold(here, "tie"), ()) > 0
            better = (score.loss > held.loss) | ((score.loss == held.loss) & coin)
            better = (better & (score.fooled == held.fooled)) | (score.fooled & ~held.fooled)
            x = torch.where(per_image(x, better), tried, x)
            held = Score(torch.where(better, score.loss, held.loss), held.fooled | (better & score.fooled))
        return best.x

    @staticmethod
    def _patch(keys: Tensor, side: int, height: int, width: int) -> Tensor:
        """A square of ones at each image's own place: (B,1,H,W) bool."""
        top = integers(fold(keys, "row"), 0, height - side)[:, None]
        left = integers(fold(keys, "column"), 0, width - side)[:, None]
        rows, columns = torch.arange(height, device=keys.device), torch.arange(width, device=keys.device)
        down = (rows >= top) & (rows < top + side)
        across = (columns >= left) & (columns < left + side)
        return (down[:, None, :, None]) & (across[:, None, None, :])
