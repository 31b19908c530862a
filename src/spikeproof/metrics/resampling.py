"""How sure a number is that was found once with each seed: over seeds, and over the configurations that were chosen.

Over seeds: every seed is one repetition of the whole study, so a statistic is taken seed by seed, and its mean has
Student's interval. A bootstrap cannot stand in for it: resampling n numbers never leaves the range from the least to
the largest, which holds their mean with no more than 1 - 2^(1-n), 75 % for three seeds, 95 % from six on.

Over configurations: the percentile bootstrap, which draws whole units (a defence with all its knob values, or single
configurations) inside each stratum, and whole seeds beside them. Both are drawn in one replicate (Owen, The pigeonhole
bootstrap, Annals of Applied Statistics 1, 2007), because each seed runs through every configuration. Replicates are a
sample too: every interval says by how much its ends would move with other ones, and every p.

Of few units replicates are too narrow, by (n-1)/n in their variance, and their tails too light, for they take the
spread of the units for known (Hesterberg, What teachers should know about the bootstrap, The American Statistician 69,
2015). It matters far out, where p is held against a level that was divided by a dozen claims; so p is at least
Student's.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy  # its functions take half a second to import, and do so when they are first asked
from numpy.typing import NDArray

from spikeproof.errors import SpikeproofError
from spikeproof.metrics._ranks import Floats

__all__ = [
    "CLEAR", "ENOUGH", "NOTHING", "SEEDS", "Bounds", "Draws", "Estimate", "Floats", "Tail", "draws", "estimate",
    "percentile", "student", "tail",
]  # fmt: skip

ENOUGH = 6
"""Units without which nothing is resampled: the fewest whose range can hold their mean in 95 % of cases."""

SEEDS = 3
"""Seeds without which there is no interval: two leave a single degree of freedom."""

CLEAR = 3.0
"""Monte Carlo standard errors from which on a distance is no matter of the replicates that were drawn."""

_UNDEFINED = 0.05
"""Share of replicates that may be undefined before the interval is too."""


class Bounds(NamedTuple):
    """The two ends of a 95 % interval."""

    low: float
    high: float

    @property
    def side(self) -> int:
        """1 where the whole interval is above 0, -1 where it is below, 0 where it holds 0."""
        return int(self.low > 0) - int(self.high < 0)


class Tail(NamedTuple):
    """What `replicates` say of 0: the two-sided p, by the share of them beyond it or Student's, whichever is larger,
    its Monte Carlo standard error, and the larger of the standard errors of the two ends of their interval."""

    p: float
    error: float
    ends: float
    replicates: int

    def clear_of(self, level: float) -> bool:
        """Whether other replicates would leave p on the same side of `level`."""
        return abs(self.p - level) >= CLEAR * self.error


class Draws(NamedTuple):
    """How often each configuration (B,C) and each seed (B,S) occurs in each of B replicates; `freedom`: how many units
    there are, less one for each stratum."""

    units: Floats
    seeds: Floats
    freedom: int


class Estimate(NamedTuple):
    """The mean over `seeds` seeds and its two intervals; None where there is none. `points` is the least number of
    configurations that any seed had, `tail` the p over units, `undefined` the share of replicates without a value;
    1.0 where nothing was resampled."""

    value: float | None
    over_seeds: Bounds | None
    over_units: Bounds | None
    seeds: int
    points: int
    tail: Tail | None = None
    undefined: float = 1.0

    @property
    def clear(self) -> bool:
        """Whether other replicates would leave the interval over units on the same side: neither end is near 0."""
        if self.over_units is None or self.tail is None:
            return True
        return min(abs(self.over_units.low), abs(self.over_units.high)) >= CLEAR * self.tail.ends


NOTHING = Estimate(None, None, None, 0, 0)


def student(values: Floats) -> Bounds | None:
    """Student's 95 % interval of the mean of independent numbers (S,); None for fewer than `SEEDS`.

    Exact for normal numbers of any count. With three it covers 92 % for uniform ones, 89 % for those that crowd at two
    ends (Beta(1/2, 1/2)) and 75 % for two values alone; with ten, 95, 94 and 98 % (`python -m benchmarks.statistics`).
    """
    if len(values) < SEEDS:
        return None
    reach = float(scipy.special.stdtrit(len(values) - 1, 0.975)) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    middle = float(np.mean(values))
    return Bounds(middle - reach, middle + reach)


def percentile(replicates: Floats) -> Bounds | None:
    """The middle 95 % of the replicates (B,); None where more than 5 % of them are undefined (NaN)."""
    defined = _defined(replicates)
    if defined is None:
        return None
    low, high = np.quantile(defined, (0.025, 0.975))
    return Bounds(float(low), float(high))


def tail(replicates: Floats, freedom: int) -> Tail | None:
    """Twice the smaller share of the replicates (B,) that lie at 0 or beyond, or Student's p with so many degrees of
    `freedom`, the units less one, if that is larger; None where there is no interval either.

    One is added to the count and to the whole, so that no p is 0 for want of replicates. The error of an end is half of
    what lies between the quantiles a standard error of its rank below and above it.
    """
    defined = _defined(replicates)
    if defined is None:
        return None
    count = len(defined)
    beyond = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    share = min(0.5, (1 + beyond) / (1 + count))
    rank = (0.025 * 0.975 / count) ** 0.5
    near = np.quantile(defined, np.clip((0.025 - rank, 0.025 + rank, 0.975 - rank, 0.975 + rank), 0.0, 1.0))
    ends = float(max(near[1] - near[0], near[3] - near[2])) / 2
    counted = 2 * share, 2 * (share * (1 - share) / count) ** 0.5
    p, error = max(counted, _by_student(defined, freedom))
    return Tail(p, error, ends, count)


def _by_student(replicates: Floats, freedom: int) -> tuple[float, float]:
    """p of the replicates' mean over their standard deviation, which is (n-1)/n too small in its square, and what other
    replicates would move it by: both have a Monte Carlo error."""
    spread = float(np.std(replicates)) * ((freedom + 1) / freedom) ** 0.5
    if spread == 0:
        return 0.0, 0.0
    t = abs(float(np.mean(replicates))) / spread
    p, further = (
        2 * float(scipy.special.stdtr(freedom, -one)) for one in (t, t + ((1 + t**2 / 2) / len(replicates)) ** 0.5)
    )
    return p, p - further


def _defined(replicates: Floats) -> Floats | None:
    """Those that have a value; None where too few do."""
    defined = replicates[np.isfinite(replicates)]
    return None if len(defined) == 0 or len(defined) < (1 - _UNDEFINED) * len(replicates) else defined


def draws(units: Sequence[Hashable], strata: NDArray[Any], seeds: int, *, replicates: int, seed: int) -> Draws | None:
    """Resamples: in each stratum (C,) as many units as it has, with replacement, each with all its configurations; and
    whole seeds. None where there are fewer than `ENOUGH` units in all. The same arguments give the same draws.
    """
    if replicates < 1 or seeds < 1:
        raise SpikeproofError("at least one replicate and one seed", f"{replicates} and {seeds}")
    generator = np.random.default_rng(seed)
    owners = list(dict.fromkeys(zip(strata.tolist(), units, strict=True)))
    if len(owners) < ENOUGH:
        return None
    place = {owner: index for index, owner in enumerate(owners)}
    of_point = np.array([place[owner] for owner in zip(strata.tolist(), units, strict=True)])
    counts = np.zeros((replicates, len(owners)))
    for stratum in dict.fromkeys(stratum for stratum, _ in owners):
        inside = [place[owner] for owner in owners if owner[0] == stratum]
        counts[:, inside] = generator.multinomial(len(inside), [1 / len(inside)] * len(inside), size=replicates)
    of_seeds = generator.multinomial(seeds, [1 / seeds] * seeds, size=replicates).astype(float)
    return Draws(counts[:, of_point], of_seeds, len(owners) - len({stratum for stratum, _ in owners}))


def estimate(by_seed: Floats, replicates: Floats | None, drawn: Draws | None, points: int) -> Estimate:
    """The mean over seeds with its intervals, from a statistic of each seed (S,), NaN where undefined, and of each
    replicate and seed (B,S). Without replicates there is no interval over units.
    """
    defined = np.isfinite(by_seed)
    if not defined.any():
        return NOTHING
    values = by_seed[defined]
    mean = float(values.mean())
    if replicates is None or drawn is None:
        return Estimate(mean, student(values), None, len(values), points)
    seeds = drawn.seeds[:, defined]
    size = np.where(seeds.sum(1) > 0, seeds.sum(1), np.nan)
    # A seed that is not drawn must not make the mean undefined, so its NaN is not multiplied with 0.
    found = np.where(seeds > 0, seeds * replicates[:, defined], 0.0).sum(1) / size
    missing = float(np.isnan(found).mean())
    over_units = percentile(found), tail(found, max(1, drawn.freedom))
    return Estimate(mean, student(values), over_units[0], len(values), points, over_units[1], missing)
