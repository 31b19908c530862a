"""Does y go with x at fixed z, over configurations, the same for every seed? Rank correlations as estimates."""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from spikeproof.metrics._ranks import Floats, Side, between, centred, partial, side, sizes
from spikeproof.metrics.resampling import ENOUGH, NOTHING, Bounds, Draws, Estimate, estimate

__all__ = ["Association", "associate", "associations", "spearman"]

X = TypeVar("X", bound=Hashable)
Y = TypeVar("Y", bound=Hashable)
Mask = NDArray[np.bool_]

_AT_ONCE = 1000
"""Replicates whose ranks are held at a time: some megabytes."""


class Association(NamedTuple):
    """Of an outcome y, a shape x and a scale z, all by rank within strata.

    `plain`: y with x. `shape`: y with x, z held fixed. `scale_plain`: y with z. `scale`: y with z, x held fixed.
    `lead`: |scale| - |shape|, above 0 where the scale says more. `constant` names what does not vary, where that is why
    there is no correlation.
    """

    plain: Estimate
    shape: Estimate
    scale_plain: Estimate
    scale: Estimate
    lead: Estimate
    constant: tuple[str, ...] = ()


def spearman(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's rho, ties at their mean rank; None where one side does not vary.

    >>> spearman([(1.0, 2.0), (2.0, 3.0), (3.0, 1.0)])
    -0.5
    """
    columns = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    weights = np.ones((1, columns.shape[1]))
    one, other = (side(centred(column, np.zeros(len(column)), weights), weights) for column in columns)
    rho = float(between(one, other)[0])
    return rho if np.isfinite(rho) else None


def associate(x: Floats, y: Floats, z: Floats, strata: NDArray[Any], drawn: Draws | None) -> Association:
    """x, y, z (S,C): a row for each seed, a column for each configuration, NaN where not measured; strata (C,).

    Correlations are taken inside each seed, over the configurations that have all three, and averaged over seeds: a
    seed that makes every network a little better shifts no rank, and seeds are never counted as further configurations.
    A seed with fewer than `ENOUGH` such configurations is left out.
    """
    return associations({0: x}, {0: y}, z, strata, drawn)[0, 0]


def associations(
    shapes: Mapping[X, Floats],
    outcomes: Mapping[Y, Floats],
    z: Floats,
    strata: NDArray[Any],
    drawn: Draws | None,
    asked: Container[tuple[X, Y]] | None = None,
) -> dict[tuple[X, Y], Association]:
    """`associate` of every shape x with every outcome y, or of those `asked` alone, under one set of draws, so that
    each is ranked once."""
    product = {(a, b): (x, y) for a, x in shapes.items() for b, y in outcomes.items()}
    pairs = {key: columns for key, columns in product.items() if asked is None or key in asked}
    parts: dict[tuple[X, Y], list[Floats]] = {key: [] for key in pairs}
    for weights in _weightings(len(strata), drawn):
        ranked = _Ranked(strata, weights)
        for key, (x, y) in pairs.items():
            parts[key].append(np.stack([_of_seed(ranked, x[s], y[s], z[s]) for s in range(len(z))]))
    return {key: _association(np.concatenate(parts[key], axis=2), *pairs[key], z, strata, drawn) for key in pairs}


def _weightings(configurations: int, drawn: Draws | None) -> Iterator[Floats]:
    """The sample itself, then its resamples, some at a time."""
    yield np.ones((1, configurations))
    if drawn is not None:
        for start in range(0, len(drawn.units), _AT_ONCE):
            yield drawn.units[start : start + _AT_ONCE]


class _Ranked:
    """Ranks and correlations under one set of weights (B,C), each made once: many pairs share a side."""

    def __init__(self, strata: NDArray[Any], weights: Floats) -> None:
        self.strata, self.weights = strata, weights
        self._masked: dict[bytes, _Masked] = {}
        self._sides: dict[bytes, Side] = {}
        self._pairs: dict[tuple[bytes, bytes], Floats] = {}

    def correlation(self, one: Floats, other: Floats, whole: Mask) -> Floats:
        """Of two columns (C,) over the configurations `whole` (C,): (B,)."""
        mask = whole.tobytes()
        keys = one[whole].tobytes() + mask, other[whole].tobytes() + mask
        if keys not in self._pairs:
            under = self._under(mask, whole)
            sides = [self._side(key, column[whole], under) for key, column in zip(keys, (one, other), strict=True)]
            self._pairs[keys] = between(*sides)
        return self._pairs[keys]

    def _under(self, mask: bytes, whole: Mask) -> _Masked:
        if mask not in self._masked:
            strata, weights = self.strata[whole], self.weights if whole.all() else self.weights[:, whole]
            self._masked[mask] = _Masked(strata, weights, weights.astype(np.float32), sizes(strata, weights))
        return self._masked[mask]

    def _side(self, key: bytes, column: Floats, under: _Masked) -> Side:
        if key not in self._sides:
            ranks = centred(column, under.strata, under.whole, under.sizes)
            self._sides[key] = side(ranks, under.weights)
        return self._sides[key]


class _Masked(NamedTuple):
    """Strata (K,), weights (B,K), the same in single precision (they are whole numbers), and `sizes` (B,K), of the
    configurations that have all that is needed."""

    strata: NDArray[Any]
    weights: Floats
    whole: NDArray[np.float32]
    sizes: Floats


def _of_seed(ranked: _Ranked, x: Floats, y: Floats, z: Floats) -> Floats:
    """The five statistics of one seed, (5,B); NaN where it has too few configurations."""
    whole = np.isfinite(x) & np.isfinite(y) & np.isfinite(z)
    if whole.sum() < ENOUGH:
        return np.full((5, len(ranked.weights)), np.nan)
    xy, xz, yz = ranked.correlation(x, y, whole), ranked.correlation(x, z, whole), ranked.correlation(y, z, whole)
    shape, scale = partial(xy, xz, yz), partial(yz, xz, xy)
    return np.stack([xy, shape, yz, scale, np.abs(scale) - np.abs(shape)])


def _association(
    found: Floats, x: Floats, y: Floats, z: Floats, strata: NDArray[Any], drawn: Draws | None
) -> Association:
    """From the statistics (S,5,1+B), of which the first is the sample's own."""
    whole = np.isfinite(x) & np.isfinite(y) & np.isfinite(z)
    used = whole.sum(1) >= ENOUGH
    if not used.any():
        return Association(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING)
    points = int(whole.sum(1)[used].min())
    replicates = None if drawn is None else found[:, :, 1:]
    plain, shape, scale_plain, scale, lead = (
        _clipped(estimate(found[:, n, 0], None if replicates is None else replicates[:, n].T, drawn, points))
        for n in range(5)
    )
    varying = {"y": y, "x": x, "z": z}
    still = tuple(name for name, v in varying.items() if not _varies(np.where(whole, v, np.nan)[used], strata))
    return Association(plain, shape, scale_plain, scale, lead, still)


def _clipped(found: Estimate) -> Estimate:
    """Student's interval knows nothing of the range [-1,1] that all five statistics have."""
    over = found.over_seeds
    if over is None:
        return found
    return found._replace(over_seeds=Bounds(max(-1.0, over.low), min(1.0, over.high)))


def _varies(values: Floats, strata: NDArray[Any]) -> bool:
    """Whether any seed has two values in one stratum."""
    groups = [row[(strata == stratum) & np.isfinite(row)] for row in values for stratum in np.unique(strata)]
    return any(len(group) and float(np.ptp(group)) > 0 for group in groups)
