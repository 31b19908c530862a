"""Shortest ways to a hyperplane and to an l1 ball inside the box [0,1], of one image, by bisection and plain loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence

__all__ = ["affine_distance", "l1_nearest"]


def _bisected(rising: Callable[[float], float], goal: float, high: float) -> float:
    low = 0.0
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):  # no number lies between
            break
        low, high = (low, middle) if rising(middle) >= goal else (middle, high)
    return high


def affine_distance(x: Sequence[float], w: Sequence[float], gap: float, norm: str) -> float:
    """The least norm of a shift d with w . d = -gap and x + d in [0,1]; infinity where the box has none."""
    weights = [abs(v) for v in w]
    rooms = [(1 - p) if v * -gap > 0 else p for p, v in zip(x, w, strict=True)]
    pairs = list(zip(weights, rooms, strict=True))
    need = abs(gap)
    if sum(v * r for v, r in pairs) < need:
        return float("inf")
    if norm == "Linf":
        return _bisected(lambda t: sum(v * min(t, r) for v, r in pairs), need, 1.0)
    if norm == "L2":
        t = _bisected(lambda t: sum(v * min(t * v, r) for v, r in pairs), need, 1e9)
        return float(sum(min(t * v, r) ** 2 for v, r in pairs) ** 0.5)
    gone = 0.0
    for v, r in sorted(pairs, reverse=True):
        way = min(r, need / v if v else 0.0)
        gone, need = gone + way, need - v * way
    return gone


def l1_nearest(x: Sequence[float], x0: Sequence[float], eps: float) -> list[float]:
    """The nearest point to x with sum |. - x0| <= eps in [0,1]: shifts shrunk by one number, found by bisection."""

    def shifts(shrunk: float) -> list[float]:
        sizes = [max(abs(a - c) - shrunk, 0.0) for a, c in zip(x, x0, strict=True)]
        return [min(s, 1 - c) if a > c else -min(s, c) for s, a, c in zip(sizes, x, x0, strict=True)]

    def spent(shrunk: float) -> float:
        return sum(abs(s) for s in shifts(shrunk))

    most = max(abs(a - c) for a, c in zip(x, x0, strict=True))
    shrunk = 0.0 if spent(0.0) <= eps else _bisected(lambda t: -spent(t), -eps, most)
    return [c + s for c, s in zip(x0, shifts(shrunk), strict=True)]
