"""APGD's search for L1: sparse steps whose sparsity adapts, in balls that shrink to the threat's own.

Croce and Hein, "Mind the box: l1-APGD for sparse adversarial attacks on image classifiers" (ICML 2021). Two
departures, each of which breaks more: coordinates that stand at the box are passed over, and the number of those that
a step moves is rounded down, so that two may become one.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from spikeproof.attacks._best import Best, Part
from spikeproof.tensors import per_image, sparse_sign
from spikeproof.types import Carry, Estimator, Threat

__all__ = ["climb"]


def climb(
    part: Part,
    x: Tensor,
    threat: Threat,
    estimator: Estimator,
    best: Best,
    salts: Iterator[int],
    steps: int,
) -> None:
    """3/10 of the steps in the ball of 3 eps, 3/10 in 2 eps, the rest in eps, each from the best point so far.

    Starts from the projection of x (n,*). What is met in the last ball is offered to `best`. Costs `steps` gradients
    and one for each ball; an image that is fooled goes on to the end of the run.
    """
    carry, early = estimator.init(x), 3 * steps // 10
    for factor, length in ((3, early), (2, early), (1, steps - 2 * early)):
        if length:
            ball = threat.scaled(factor)
            offered = best if factor == 1 else None
            x, carry = _within(ball, part, x, estimator, carry, offered, salts, length)


def _support(x: Tensor, x0: Tensor) -> Tensor:
    """How many coordinates moved: (B,) int64."""
    return (x != x0).flatten(1).sum(1)


def _movable(gradient: Tensor, x: Tensor) -> Tensor:
    """The gradient, 0 where it pulls out of the box at whose end x stands: a sparse step is not to be spent there."""
    low, high = x < 1e-6, x > 1 - 1e-6  # up to rounding
    return torch.where((low & (gradient < 0)) | (high & (gradient > 0)), 0.0, gradient)


def _within(
    ball: Threat,
    part: Part,
    x: Tensor,
    estimator: Estimator,
    carry: Carry,
    best: Best | None,
    salts: Iterator[int],
    steps: int,
) -> tuple[Tensor, Carry]:
    """One ball: the point of highest loss, and the estimator's memory. What follows is per image, (B,) or (B,*).

    A step moves two thirds as many coordinates as the best point has moved, of those that can move. At a checkpoint,
    every 4 % of the steps, an image whose best point has become sparser by 5 % goes back to it with the full step, eps;
    any other's step shrinks by 1.5, down to eps / 10.
    """
    f, x0 = part.f, part.x0
    x = ball.project(x, x0)
    score, gradient, carry = estimator(f, x, carry, next(salts))
    if best is not None:
        best.offer(x, score, part.at)
    top, top_x, top_gradient = score.loss, x, gradient
    support = _support(x, x0)
    eta = torch.full_like(score.loss, ball.eps)
    window = max(steps // 25, 1)
    for k in range(1, steps + 1):
        ahead = sparse_sign(_movable(gradient, x), 2 * support // 3)
        x = ball.project(x + per_image(x, eta) * ahead, x0)
        score, gradient, carry = estimator(f, x, carry, next(salts))
        if best is not None:
            best.offer(x, score, part.at)
        better = score.loss > top
        top = torch.where(better, score.loss, top)
        top_x = torch.where(per_image(x, better), x, top_x)
        top_gradient = torch.where(per_image(x, better), gradient, top_gradient)
        if k % window == 0:
            before, support = support, _support(top_x, x0)
            sparser = 20 * support < 19 * before
            eta = torch.where(sparser, ball.eps, (eta / 1.5).clamp(min=ball.eps / 10))
            x = torch.where(per_image(x, sparser), top_x, x)
            gradient = torch.where(per_image(x, sparser), top_gradient, gradient)
    return top_x, carry
