"""Rank correlation within strata, plain and partial, for many weightings at once.

Everything is ranked inside its own stratum, and only then put together. A correlation over two groups that lie apart
can have the opposite sign of the one inside each of them (Simpson's paradox); one of ranks within groups cannot.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "Side", "between", "centred", "correlation", "partial", "side", "sizes"]

Floats: TypeAlias = NDArray[np.float64]

_NONE = 1e-12
"""A sum of squares of ranks below it is rounding: nothing varies."""

_ALIKE = 1e-9
"""Two orders whose 1 - r^2 is below it are one order: neither can vary while the other is held fixed."""


def centred(x: Floats, strata: NDArray[Any], weights: NDArray[Any], drawn: Floats | None = None) -> Floats:
    """Ranks of `x` (C,) inside each stratum (C,), as shares less 1/2, for each weighting (B,C): (B,C) in (-0.5,0.5).

    A weight is how often a point occurs; ties have their mean rank. So a row of whole weights gives the ranks of the
    sample in which each point is repeated that often, and its weighted mean in every stratum is 0. Whole weights may be
    of single precision, in which their sums and halves are exact up to 2^23, in half the time. drawn: `sizes` of the
    same strata and weights, for who ranks many columns under them.

    >>> centred(np.array([3.0, 1.0, 3.0]), np.zeros(3), np.ones((1, 3))).round(3).tolist()
    [[0.167, -0.333, 0.167]]
    """
    same = strata[:, None] == strata[None, :]
    below = same * ((x[None, :] < x[:, None]) + 0.5 * (x[None, :] == x[:, None]))
    ranks: Floats = (weights @ below.T.astype(weights.dtype)).astype(np.float64)
    ranks /= sizes(strata, weights) if drawn is None else drawn
    ranks -= 0.5
    return ranks


def sizes(strata: NDArray[Any], weights: Floats) -> Floats:
    """How many points of its own stratum each weighting draws beside a point, (B,C); at least 1."""
    each, place = np.unique(strata, return_inverse=True)
    inside = (place[:, None] == np.arange(len(each))).astype(np.float64)
    # 0 only where the stratum is not drawn and has no weight.
    return np.asarray(np.maximum(weights @ inside, 1.0)[:, place], dtype=np.float64)


class Side(NamedTuple):
    """One side of correlations: centred ranks (B,C), the same times their weights, and their weighted squares (B,)."""

    ranks: Floats
    weighted: Floats
    squares: Floats


def side(ranks: Floats, weights: Floats) -> Side:
    """Of centred ranks (B,C), for all the correlations that they enter."""
    weighted = weights * ranks
    return Side(ranks, weighted, _total(weighted, ranks))


def between(one: Side, other: Side) -> Floats:
    """Correlation of two sides under the same weights: (B,) in [-1,1], NaN where one is constant.

    With one stratum this is Spearman's rho of each resample (ties at their mean rank); with more, covariance and
    variances are summed over strata before they are divided.
    """
    defined = np.minimum(one.squares, other.squares) > _NONE
    product = np.where(defined, one.squares * other.squares, np.nan)
    return np.asarray(np.clip(_total(one.weighted, other.ranks) / np.sqrt(product), -1.0, 1.0), dtype=np.float64)


def correlation(a: Floats, b: Floats, weights: Floats) -> Floats:
    """`between` of two sets of centred ranks (B,C) under the weights (B,C)."""
    return between(side(a, weights), side(b, weights))


def partial(xy: Floats, xz: Floats, yz: Floats) -> Floats:
    """Correlation of x and y with z held fixed, from the three plain ones; of ranks, Spearman's partial correlation.

    (xy - xz yz) / sqrt((1 - xz^2)(1 - yz^2)), NaN where z orders as x or as y does, for then nothing varies at fixed z.

    >>> partial(np.array([0.5]), np.array([0.5]), np.array([0.5])).round(4).tolist()
    [0.3333]
    """
    left = (1 - xz**2), (1 - yz**2)
    product = np.where(np.minimum(*left) > _ALIKE, left[0] * left[1], np.nan)
    return np.asarray(np.clip((xy - xz * yz) / np.sqrt(product), -1.0, 1.0), dtype=np.float64)


def _total(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.einsum("bc,bc->b", a, b), dtype=np.float64)
