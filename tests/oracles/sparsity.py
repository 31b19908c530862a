"""Sparsity measures of one vector, each from its definition, in pure Python floats (sums by math.fsum)."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["MEASURES", "below_share", "gini", "hoyer", "l1", "l1_ratio", "l2", "participation", "zero_share"]


def zero_share(g: Sequence[float]) -> float:
    return sum(1 for value in g if value == 0) / len(g)


def below_share(g: Sequence[float], tau: float) -> float:
    """Share of entries whose size is at most tau times the largest; an exact zero always counts."""
    top = max(abs(value) for value in g)
    return sum(1 for value in g if abs(value) <= tau * top) / len(g)


def l1(g: Sequence[float]) -> float:
    return math.fsum(abs(value) for value in g)


def l2(g: Sequence[float]) -> float:
    return math.sqrt(math.fsum(value * value for value in g))


def l1_ratio(g: Sequence[float]) -> float:
    """l1 / (sqrt(d) l2): 1 for a constant vector, 1 / sqrt(d) for a single entry."""
    return l1(g) / (math.sqrt(len(g)) * l2(g))


def hoyer(g: Sequence[float]) -> float:
    """Hoyer 2004: (sqrt(d) - l1 / l2) / (sqrt(d) - 1); 0 for a constant vector, 1 for a single entry."""
    root = math.sqrt(len(g))
    return (root - l1(g) / l2(g)) / (root - 1)


def gini(g: Sequence[float]) -> float:
    """Mean absolute difference of |g| over all ordered pairs, over twice the mean of |g|."""
    sizes = [abs(value) for value in g]
    d = len(sizes)
    differences = math.fsum(abs(a - b) for a in sizes for b in sizes)
    return differences / (2 * d * math.fsum(sizes))


def participation(g: Sequence[float]) -> float:
    """(sum g^2)^2 / sum g^4: how many entries carry the energy, 1..d."""
    return math.fsum(value**2 for value in g) ** 2 / math.fsum(value**4 for value in g)


MEASURES = {
    "zero_share": zero_share,
    "below_1e-06": lambda g: below_share(g, 1e-6),
    "below_1e-03": lambda g: below_share(g, 1e-3),
    "below_1e-02": lambda g: below_share(g, 1e-2),
    "l1": l1,
    "l2": l2,
    "l1_ratio": l1_ratio,
    "hoyer": hoyer,
    "gini": gini,
    "participation": participation,
}
