"""Intervals: against SciPy, and by how often they hold the truth where the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import bootstrap, ttest_1samp

from spikeproof.errors import SpikeproofError
from spikeproof.metrics.association import associate
from spikeproof.metrics.resampling import ENOUGH, Bounds, Draws, draws, estimate, percentile, student, tail


def test_students_interval_is_scipys() -> None:
    values = np.array([0.1, 0.4, 0.2, 0.7])
    expected = ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert student(values) == pytest.approx((expected.low, expected.high))
    assert student(values[:2]) is None


@pytest.mark.parametrize(("low", "high", "side"), [(0.1, 0.2, 1), (-0.2, -0.1, -1), (-0.1, 0.1, 0), (0.0, 0.1, 0)])
def test_the_side_of_an_interval(low: float, high: float, side: int) -> None:
    assert Bounds(low, high).side == side


def test_three_seeds_students_interval_covers_and_their_range_does_not() -> None:
    """What the choice rests on: the widest bootstrap interval of three numbers is their range, which covers 75 %."""
    generator = np.random.default_rng(1)
    samples = generator.normal(0.3, 1.0, (4000, 3))
    exact = [bounds.low <= 0.3 <= bounds.high for bounds in map(student, samples) if bounds is not None]
    widest = (samples.min(1) <= 0.3) & (samples.max(1) >= 0.3)
    assert np.mean(exact) == pytest.approx(0.95, abs=0.015)
    assert np.mean(widest) == pytest.approx(1 - 2 ** (1 - 3), abs=0.03)
    assert 1 - 2 ** (1 - ENOUGH) >= 0.95 > 1 - 2 ** (2 - ENOUGH)
    named = bootstrap((samples[0],), np.mean, method="percentile", rng=np.random.default_rng(0)).confidence_interval
    assert samples[0].min() <= named.low <= named.high <= samples[0].max()


def test_the_percentile_interval_knows_when_it_knows_nothing() -> None:
    values = np.arange(1000.0)
    assert percentile(values) == pytest.approx((24.975, 974.025))
    values[:40] = np.nan
    assert percentile(values) is not None
    values[:60] = np.nan
    assert percentile(values) is None
    assert percentile(np.full(10, np.nan)) is None


def test_units_are_drawn_whole_inside_their_stratum_and_the_same_twice() -> None:
    strata = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    units = ["a", "a", "b", "c", "c", "d", "a", "b", "c", "c", "d"]
    drawn = draws(units, strata, 3, replicates=50, seed=4)
    assert drawn is not None
    assert drawn.units.shape == (50, 11)
    assert (drawn.units[:, 0] == drawn.units[:, 1]).all()
    assert not (drawn.units[:, 0] == drawn.units[:, 6]).all()  # "a" of another stratum is another unit
    for stratum in (0, 1):
        firsts = [units.index(u) if stratum == 0 else 6 + units[6:].index(u) for u in "abcd"]
        assert (drawn.units[:, firsts].sum(1) == 4).all()
    assert (drawn.seeds.sum(1) == 3).all()
    again = draws(units, strata, 3, replicates=50, seed=4)
    assert again is not None
    assert (again.units == drawn.units).all()
    assert (again.seeds == drawn.seeds).all()


def test_too_few_units_are_not_resampled() -> None:
    assert draws(list("aabbcdde"), np.zeros(8), 3, replicates=9, seed=0) is None
    assert draws(list("aabbcddef"), np.zeros(9), 3, replicates=9, seed=0) is not None
    with pytest.raises(SpikeproofError, match="at least one replicate"):
        draws(list("abcdef"), np.zeros(6), 3, replicates=0, seed=0)


def test_a_seed_without_the_number_is_left_out_and_not_counted() -> None:
    table = np.array([[0.2, np.nan, 0.4], [0.3, np.nan, 0.5]])
    drawn = Draws(np.ones((2, 8)), np.array([[1.0, 1, 1], [0.0, 3, 0]]), 7)
    found = estimate(np.array([0.2, np.nan, 0.4]), table, drawn, points=8)
    assert found.value == pytest.approx(0.3)
    assert found.seeds == 2
    assert found.over_seeds is None
    assert found.over_units is None  # half of the replicates drew nothing but the seed that has no number


@pytest.mark.parametrize("units", [6, 16, 60])
def test_p_of_few_units_is_that_of_students_test(units: int) -> None:
    """Of a mean, whose bootstrap is known: SciPy's test of the same numbers has the same p, where the share of
    replicates beyond 0 alone is smaller."""
    generator = np.random.default_rng(units)
    values = generator.normal(size=units)
    values += 3.5 * np.std(values, ddof=1) / units**0.5 - values.mean()
    again = generator.choice(values, (20_000, units)).mean(1)
    found = tail(again, units - 1)
    assert found is not None
    assert found.p == pytest.approx(ttest_1samp(values, 0.0).pvalue, rel=0.15, abs=3 * found.error)
    assert 2 * np.mean(again <= 0) < found.p


def test_degrees_of_freedom_are_units_less_one_for_each_stratum() -> None:
    drawn = draws(list("aabbccddeeff"), np.repeat([0, 1], 6), 3, replicates=4, seed=0)
    assert drawn is not None
    assert drawn.freedom == 6 - 2


def covered(family: int, unit: bool) -> float:
    """How often the interval holds the true rho, where configurations of one family are alike.

    Pairs are Gaussian with Pearson 0.5, so Spearman's rho is 6/pi asin(0.25); each family of `family` configurations
    has one such pair, give or take a little. With `unit`, whole families are resampled, else single configurations.
    """
    truth = 6 / math.pi * math.asin(0.25)
    generator = np.random.default_rng(family + unit)
    hits, families, trials = 0, 24, 150
    for trial in range(trials):
        base = generator.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], families)
        points = np.repeat(base, family, axis=0) + generator.normal(0, 0.05, (families * family, 2))
        strata = np.zeros(len(points))
        units = [n // family if unit else n for n in range(len(points))]
        drawn = draws(units, strata, 1, replicates=200, seed=trial)
        other = generator.normal(size=len(points))
        found = associate(points[None, :, 0], points[None, :, 1], other[None], strata, drawn).plain.over_units
        assert found is not None
        hits += found.low <= truth <= found.high
    return hits / trials


def test_the_bootstrap_covers_when_whole_families_are_drawn_and_not_when_their_members_are() -> None:
    assert covered(1, unit=True) == pytest.approx(0.94, abs=0.05)
    assert covered(5, unit=True) == pytest.approx(0.94, abs=0.05)
    assert covered(5, unit=False) < 0.75
