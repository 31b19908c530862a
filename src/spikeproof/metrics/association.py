"""Does y go with x at fixed z, over configurations, the same for every seed? Rank correlations as estimates."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spikeproof.metrics._ranks import Floats, centred, correlation, partial
from spikeproof.metrics.resampling import ENOUGH, NOTHING, Bounds, Draws, Estimate, estimate

__all__ = ["Association", "associate"]


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


def associate(x: Floats, y: Floats, z: Floats, strata: NDArray[Any], drawn: Draws | None) -> Association:
    """x, y, z (S,C): a row for each seed, a column for each configuration, NaN where not measured; strata (C,).

    Correlations are taken inside each seed, over the configurations that have all three, and averaged over seeds: a
    seed that makes every network a little better shifts no rank, and seeds are never counted as further configurations.
    A seed with fewer than `ENOUGH` such configurations is left out.
    """
    whole = np.isfinite(x) & np.isfinite(y) & np.isfinite(z)
    used = whole.sum(1) >= ENOUGH
    if not used.any():
        return Association(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING)
    found = [_of_seed(x[s], y[s], z[s], strata, whole[s], drawn) if used[s] else None for s in range(len(x))]
    points = int(whole.sum(1)[used].min())
    estimates = []
    for place in range(len(Association._fields) - 1):
        # Row 0 is the sample itself, the rest are its resamples.
        columns = [np.full(_rows(drawn), np.nan) if of is None else of[place] for of in found]
        table = np.stack(columns, axis=1)
        own = estimate(table[0], None if drawn is None else table[1:], None if drawn is None else drawn.seeds, points)
        estimates.append(own._replace(over_seeds=_clipped(own.over_seeds)))
    varying = {"y": y, "x": x, "z": z}
    still = tuple(name for name, v in varying.items() if not _varies(np.where(whole, v, np.nan)[used], strata))
    plain, shape, scale_plain, scale, lead = estimates
    return Association(plain, shape, scale_plain, scale, lead, still)


def _clipped(bounds: Bounds | None) -> Bounds | None:
    """Student's interval knows nothing of the range [-1,1] that all five statistics have."""
    return None if bounds is None else Bounds(max(-1.0, bounds.low), min(1.0, bounds.high))


def _rows(drawn: Draws | None) -> int:
    return 1 if drawn is None else 1 + len(drawn.units)


def _of_seed(
    x: Floats, y: Floats, z: Floats, strata: NDArray[Any], whole: NDArray[np.bool_], drawn: Draws | None
) -> tuple[Floats, ...]:
    """The five statistics of one seed, each (1 + B,): of the sample, then of every resample."""
    weights = np.ones((1, int(whole.sum())))
    if drawn is not None:
        weights = np.concatenate([weights, drawn.units[:, whole]])
    a, b, c = (centred(v[whole], strata[whole], weights) for v in (x, y, z))
    xy, xz, yz = correlation(a, b, weights), correlation(a, c, weights), correlation(b, c, weights)
    shape, scale = partial(xy, xz, yz), partial(yz, xz, xy)
    return xy, shape, yz, scale, np.abs(scale) - np.abs(shape)


def _varies(values: Floats, strata: NDArray[Any]) -> bool:
    """Whether any seed has two values in one stratum."""
    groups = [row[(strata == stratum) & np.isfinite(row)] for row in values for stratum in np.unique(strata)]
    return any(len(group) and float(np.ptp(group)) > 0 for group in groups)
