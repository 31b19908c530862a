"""Iterative attacks on one image as plain loops over NumPy vectors: APGD (also in l1), SA-PGD, MI-FGSM, Square's sides.

Every twin gets its start, and returns all points at which the objective is evaluated. `f(x)` gives (loss, gradient).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from oracles.shortest import l1_nearest

__all__ = [
    "Vector", "apgd", "apgd_l1", "checkpoints", "mi_fgsm", "sa_multipliers", "sa_pgd", "square_share", "square_side",
]  # fmt: skip

Vector = NDArray[np.float64]
Function = Callable[[Vector], tuple[float, Vector]]


def _project(x: Vector, x0: Vector, eps: float, norm: str) -> Vector:
    shift = x - x0
    if norm == "Linf":
        shift = np.minimum(np.maximum(shift, -eps), eps)
    elif np.sqrt(np.sum(shift**2)) > eps:
        shift = shift * (eps / np.sqrt(np.sum(shift**2)))
    return np.minimum(np.maximum(x0 + shift, 0.0), 1.0)


def _unit(g: Vector, norm: str) -> Vector:
    return np.sign(g) if norm == "Linf" else g / max(np.sqrt(np.sum(g**2)), 1e-30)


def checkpoints(steps: int) -> list[int]:
    """Croce and Hein 2020: a first window of 22 % of the steps, each next 3 % shorter, none under 6 % (whole steps)."""
    window, shorter, least = max(22 * steps // 100, 1), max(3 * steps // 100, 1), max(6 * steps // 100, 1)
    out, at = [], window
    while at <= steps:
        out.append(at)
        window = max(window - shorter, least)
        at += window
    return out


def apgd(
    f: Function, start: Vector, x0: Vector, eps: float, steps: int, norm: str = "Linf"
) -> tuple[list[Vector], list[float]]:
    """Auto-PGD (Croce and Hein 2020): the points evaluated, start included, and the step size at each step.

    Step 2 eps; momentum 1/4. At a checkpoint the step halves, and the search goes back to its best point, where at most
    3/4 of the window's steps raised the loss, or where the step did not halve at the last checkpoint (it counts as
    halved before the first) and the best loss is still what it was there. Going back changes where the search stands,
    and so the loss that the next step is held against, but not the point before.
    """
    points, sizes = [start], []
    x = before = start
    loss, g = f(x)
    losses, best, best_x, best_g = [loss], loss, x, g
    size, halved, best_at_check, last_check = 2 * eps, True, loss, 0
    for k in range(1, steps + 1):
        sizes.append(size)
        inertia = 0.0 if k == 1 else 0.25
        z = _project(x + size * _unit(g, norm), x0, eps, norm)
        x, before = _project(x + (1 - inertia) * (z - x) + inertia * (x - before), x0, eps, norm), x
        loss, g = f(x)
        points.append(x)
        losses.append(loss)
        if loss > best:
            best, best_x, best_g = loss, x, g
        if k in checkpoints(steps):
            rises = sum(losses[j] > losses[j - 1] for j in range(last_check + 1, k + 1))
            stuck = not halved and best <= best_at_check
            halved = 4 * rises <= 3 * (k - last_check) or stuck
            best_at_check, last_check = best, k
            if halved:
                size, x, g, losses[-1] = size / 2, best_x, best_g, best
    return points, sizes


def apgd_l1(f: Function, start: Vector, x0: Vector, eps: float, steps: int) -> list[list[Vector]]:
    """Auto-PGD in l1 (Croce and Hein 2021): the points evaluated in each of the balls 3 eps, 2 eps and eps.

    30, 30 and 40 % of the steps (rounded down, the rest last), each ball entered by the best point of the one before.
    A step is an equal shift of the steepest coordinates, 2/3 (rounded down, one or more) of as many as differ from the
    clean image at the ball's start, then in the best point of the last check; none that leaves the box. A check comes
    every 4 % of a ball's steps; there a best point with fewer than 95 % of the differing coordinates of the check
    before restarts with the full step, eps of the ball; otherwise the step is divided by 1.5, never below a tenth.
    """

    def differing(point: Vector) -> int:
        return int(np.count_nonzero(point - x0))

    first, x, balls = int(0.3 * steps + 1e-9), start, []
    for radius, length in ((3 * eps, first), (2 * eps, first), (eps, steps - 2 * first)):
        if not length:
            continue
        x = np.array(l1_nearest(list(x), list(x0), radius))
        loss, g = f(x)
        points, best, best_x, best_g = [x], loss, x, g
        size, moved = radius, differing(x)
        for k in range(1, length + 1):
            g = np.where(((x < 1e-6) & (g < 0)) | ((x > 1 - 1e-6) & (g > 0)), 0.0, g)
            order = np.argsort(-np.abs(g), kind="stable")[: max(math.floor(moved / 1.5 + 1e-9), 1)]
            step = np.zeros_like(x)
            step[order] = np.sign(g[order])
            x = np.array(l1_nearest(list(x + size * step / max(np.count_nonzero(step), 1)), list(x0), radius))
            loss, g = f(x)
            points.append(x)
            if loss > best:
                best, best_x, best_g = loss, x, g
            if k % max(int(0.04 * length), 1) == 0:
                before, moved = moved, differing(best_x)
                if moved / before < 0.95:
                    size, x, g = radius, best_x, best_g
                else:
                    size = max(size / 1.5, radius / 10)
        balls.append(points)
        x = best_x
    return balls


def sa_multipliers(gradients: list[Vector]) -> list[Vector]:
    """SA-PGD's step in units of the step size before its clip at +-1, one for each gradient met so far."""
    m = v = np.zeros_like(gradients[0])
    out = []
    for k, g in enumerate(gradients):
        first, second = g / np.mean(np.abs(g)), g**2 / np.mean(g**2)
        m, v = (first, second) if k == 0 else (0.5 * m + first, 0.8 * v + second)
        out.append(np.divide(m, np.sqrt(v), out=np.zeros_like(m), where=v > 0))
    return out


def sa_pgd(f: Function, start: Vector, x0: Vector, eps: float, steps: int) -> list[Vector]:
    """Stable adaptive PGD in L-inf: step eps, halved at every checkpoint; the points evaluated."""
    points, gradients = [start], []
    size = eps
    for k in range(1, steps + 1):
        gradients.append(f(points[-1])[1])
        move = np.minimum(np.maximum(sa_multipliers(gradients)[-1], -1), 1)
        points.append(_project(points[-1] + size * move, x0, eps, "Linf"))
        if k in checkpoints(steps):
            size /= 2
    return points


def mi_fgsm(f: Function, x0: Vector, eps: float, steps: int, decay: float, size: float) -> list[Vector]:
    """Momentum iterative FGSM (Dong et al. 2018) in L-inf, from the clean image: the points evaluated."""
    points, m = [x0], np.zeros_like(x0)
    for _ in range(steps):
        g = f(points[-1])[1]
        scale = np.mean(np.abs(g))
        m = decay * m + (g / scale if scale > 0 else 0.0)
        points.append(_project(points[-1] + size * np.sign(m), x0, eps, "Linf"))
    return points


def square_share(query: int, queries: int, p: float) -> float:
    """Share of the image that patch number `query` (from 0) covers, p halved at 10, 50, 200, ... of 10,000 queries."""
    scaled = int(query / queries * 10_000)
    halvings = sum(scaled > at for at in (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000))
    return p / 2.0**halvings


def square_side(query: int, queries: int, p: float, height: int, width: int) -> int:
    """Side of the patch: a whole number of pixels from 1 to the smaller side of the image."""
    return min(max(round(math.sqrt(square_share(query, queries, p) * height * width)), 1), min(height, width))
