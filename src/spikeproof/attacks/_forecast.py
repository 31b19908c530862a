"""What a point would score, told from the points of its image that were asked: kernel ridge regression.

A search that makes more candidates than it may ask about asks about the most promising (pre-selection; Jin,
"Surrogate-assisted evolutionary computation: recent advances and future challenges", Swarm and Evolutionary
Computation 2011).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Forecast"]

_RIDGE = 0.03
"""Of the variance of the scores: what no smooth function of the pixels explains, as the jumps of spike counts."""

_REACH = 3.0
"""The kernel is exp(-d^2 / 2 l^2), and l^2 so many times the mean square distance of what is remembered."""


class Forecast:
    """Of each of n images the `memory` points (n,m,*) that were asked last, and what they scored.

    In float64 and image by image, so that a forecast does not depend on the company that an image is in.
    """

    def __init__(self, memory: int) -> None:
        self.memory, self.learned = memory, 0

    def learn(self, x: Tensor, score: Tensor) -> None:
        """Points x (n,c,*) and their scores (n,c); the oldest are forgotten."""
        x, score = (one[:, -self.memory :].double() for one in (x.flatten(2), score))
        if not self.learned:
            n, _, size = x.shape
            self.points, self.scores = x.new_empty(n, self.memory, size), x.new_empty(n, self.memory)
            self.squares = x.new_empty(n, self.memory, self.memory)
        at = torch.arange(self.learned, self.learned + x.shape[1], device=x.device) % self.memory
        self.learned += x.shape[1]
        self.points[:, at], self.scores[:, at] = x, score
        known = min(self.learned, self.memory)
        square = _squares(x, self.points[:, :known])
        self.squares[:, at, :known], self.squares[:, :known, at] = square, square.transpose(1, 2)

    def of(self, x: Tensor) -> Tensor:
        """For points x (n,c,*), in standard deviations above the mean of what is remembered: (n,c) float64."""
        known = min(self.learned, self.memory)
        points, scores, squares = self.points[:, :known], self.scores[:, :known], self.squares[:, :known, :known]
        scale = (2.0 * _REACH * squares.mean((1, 2))).clamp(min=1e-30)[:, None, None]
        spread = scores.std(1, correction=0, keepdim=True).clamp(min=1e-12)
        kernel = (-squares / scale).exp()
        kernel.diagonal(dim1=1, dim2=2).add_(_RIDGE)
        z = (scores - scores.mean(1, keepdim=True)) / spread
        weights = torch.cholesky_solve(z[..., None], torch.linalg.cholesky_ex(kernel).L)
        return ((-_squares(x.flatten(2).double(), points) / scale).exp() @ weights)[..., 0]

    def keep(self, which: Tensor) -> None:
        """Of the images those alone, (n,) bool."""
        self.points, self.scores, self.squares = self.points[which], self.scores[which], self.squares[which]


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """Square distances of points a (n,c,k) from points b (n,m,k): (n,c,m)."""
    norms = a.square().sum(2)[..., None] + b.square().sum(2)[:, None]
    return torch.baddbmm(norms, a, b.transpose(1, 2), alpha=-2.0).clamp_(min=0.0)
