"""Phase and latency codes as look-up tables over pixel levels, and the slopes of those tables.

A level v is an integer 0..2^K - 1 (K = 8: a grey level). Bit k counts from the most significant, k = 1.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

__all__ = [
    "latency_reach",
    "latency_slopes",
    "latency_time",
    "neighbours",
    "phase_bit",
    "phase_reach",
    "phase_secants",
    "phase_train",
    "weighted_slopes",
]


def phase_bit(v: int, k: int, planes: int = 8) -> int:
    """Bit k = 1 (most significant) .. planes of level v."""
    return int(v // 2 ** (planes - k) % 2)


def phase_train(v: int, steps: int, planes: int = 8) -> list[int]:
    """The spikes of level v: step t (from 0) carries bit t mod planes + 1, unweighted, over and over."""
    return [phase_bit(v, t % planes + 1, planes) for t in range(steps)]


def neighbours(v: int, h: int, levels: int) -> tuple[int, int]:
    """v - h and v + h, clipped to the levels there are."""
    return max(0, v - h), min(levels - 1, v + h)


def phase_secants(v: int, h: int, planes: int = 8) -> list[Fraction]:
    """Slope of each bit over v - h .. v + h, per unit of v / 2^planes."""
    low, high = neighbours(v, h, 2**planes)
    width = Fraction(high - low, 2**planes)
    return [(phase_bit(high, k, planes) - phase_bit(low, k, planes)) / width for k in range(1, planes + 1)]


def weighted_slopes(planes: int = 8) -> list[Fraction]:
    """2^k / planes for bit k: each bit restores an equal share of the value."""
    return [Fraction(2**k, planes) for k in range(1, planes + 1)]


def latency_time(v: int, steps: int, levels: int = 256) -> int:
    """When level v spikes: (steps - 1) (1 - v / (levels - 1)) to the nearest step, half to even; bright is early."""
    return round(Fraction((steps - 1) * (levels - 1 - v), levels - 1))


def latency_slopes(v: int, h: int, steps: int, levels: int = 256) -> list[Fraction]:
    """Slope of each step's spike over v - h .. v + h, per unit of x = v / (levels - 1)."""
    low, high = neighbours(v, h, levels)
    width = Fraction(high - low, levels - 1)
    early, late = latency_time(high, steps, levels), latency_time(low, steps, levels)
    return [((t == early) - (t == late)) / width for t in range(steps)]


def _reach(code: Callable[[int], int], reach: int, levels: int) -> float:
    """Share of levels whose `code` differs from that of some level at most `reach` away."""
    movable = 0
    for v in range(levels):
        low, high = neighbours(v, reach, levels)
        movable += any(code(other) != code(v) for other in range(low, high + 1))
    return movable / levels


def phase_reach(k: int, reach: int, planes: int = 8) -> float:
    """Share of levels whose bit k can be flipped within +-reach levels."""
    return _reach(lambda v: phase_bit(v, k, planes), reach, 2**planes)


def latency_reach(reach: int, steps: int, levels: int = 256) -> float:
    """Share of levels whose spike can be moved within +-reach levels."""
    return _reach(lambda v: latency_time(v, steps, levels), reach, levels)
