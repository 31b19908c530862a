"""Comparisons in pairs: against enumeration, SciPy, a bootstrap of both sources, and how often they hold the truth."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, permutation_test

from spikeproof.errors import SpikeproofError
from spikeproof.metrics.multiple import holm, levels
from spikeproof.metrics.paired import crossed, flips, mcnemar
from spikeproof.metrics.resampling import student

NUMBERS = st.lists(st.integers(-9, 9), min_size=1, max_size=8)


@given(NUMBERS)
@settings(max_examples=40, deadline=None)
def test_flips_are_all_sign_vectors_counted(values: list[int]) -> None:
    """In whole numbers, so that ties are ties."""
    every = product((1, -1), repeat=len(values))
    sums = [abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in every]
    found = flips(np.array(values, dtype=np.float64))
    assert found.p == sum(one >= abs(sum(values)) for one in sums) / len(sums)
    assert found.least == pytest.approx(2 / len(sums))
    assert found.error == 0.0


def test_flips_are_scipys_for_many_blocks() -> None:
    values = np.random.default_rng(0).normal(0.4, 1.0, 20)
    own = flips(values)
    drawn = {"n_resamples": 20_000, "rng": np.random.default_rng(1)}
    other = permutation_test((values,), np.mean, permutation_type="samples", **drawn)
    assert own.p == pytest.approx(other.pvalue, abs=5 * own.error + 0.005)
    assert own.error > 0
    with pytest.raises(SpikeproofError, match="at least one difference"):
        flips(np.empty(0))


@given(st.integers(0, 40), st.integers(0, 40))
@settings(max_examples=40, deadline=None)
def test_mcnemar_is_the_binomial_test_of_the_images_that_tell(first: int, second: int) -> None:
    expected = binomtest(first, first + second, 0.5).pvalue if first + second else 1.0
    assert mcnemar(first, second).p == pytest.approx(expected)
    assert mcnemar(first, second).p == mcnemar(second, first).p


def test_the_two_of_section_10() -> None:
    """0 images against 12 are p = 0.0005, though the intervals of the two networks overlap."""
    assert mcnemar(0, 12).p == pytest.approx(2 * 0.5**12)
    with pytest.raises(SpikeproofError, match="counts of images"):
        mcnemar(-1, 2)


def test_with_one_column_the_crossed_interval_is_students() -> None:
    values = np.array([0.1, 0.4, 0.2, 0.7])
    assert crossed(values[:, None]) == pytest.approx(student(values))
    assert crossed(np.tile(values[:, None], (1, 50))) == pytest.approx(student(values))  # images that say the same
    assert crossed(values[:2, None]) is None
    assert crossed(np.full((3, 4), 0.5)) == (0.5, 0.5)


def test_it_is_as_wide_as_a_bootstrap_of_seeds_and_images() -> None:
    """Owen's pigeonhole bootstrap, with seeds enough for it to be right."""
    generator = np.random.default_rng(3)
    seeds, images = 60, 80
    shapes = (seeds, 1), (1, images), (seeds, images)
    table = sum((generator.normal(size=shape) for shape in shapes), np.zeros((seeds, images)))
    weights = [generator.multinomial(n, [1 / n] * n, 2000) / n for n in (seeds, images)]
    drawn = np.einsum("bs,sn,bn->b", weights[0], table, weights[1])
    found = crossed(table)
    assert found is not None
    low, high = np.quantile(drawn, (0.025, 0.975))
    assert found.high - found.low == pytest.approx(high - low, rel=0.1)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_it_covers_where_images_are_shared_and_students_does_not(seeds: int) -> None:
    generator = np.random.default_rng(seeds)
    held = {"crossed": 0, "student": 0}
    trials = 400
    for _ in range(trials):
        parts = (0.05, (seeds, 1)), (0.3, (1, 64)), (0.4, (seeds, 64))
        table = sum((scale * generator.normal(size=shape) for scale, shape in parts), np.zeros((seeds, 64)))
        for name, bounds in (("crossed", crossed(table)), ("student", student(table.mean(1)))):
            assert bounds is not None
            held[name] += bounds.low <= 0 <= bounds.high
    assert held["crossed"] >= 0.93 * trials
    assert held["student"] < {3: 0.95, 5: 0.91, 10: 0.80}[seeds] * trials


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
@settings(max_examples=60, deadline=None)
def test_holms_method_rejects_from_the_least_until_one_holds(p: list[float]) -> None:
    """The plain form: walk up the sorted p while each is at most 5 % over those left."""
    rejected: set[int] = set()
    for rank, place in enumerate(sorted(range(len(p)), key=lambda n: p[n])):
        if p[place] > 0.05 / (len(p) - rank):
            break
        rejected.add(place)
    got = {place for place, corrected in enumerate(holm(p)) if corrected <= 0.05}
    assert got ^ rejected <= {n for n, one in enumerate(p) if any(abs(one * k - 0.05) < 1e-9 for k in range(1, 10))}
    assert rejected == {n for n, (one, held) in enumerate(zip(p, levels(p), strict=True)) if one <= held}


def test_p_values_are_in_0_to_1() -> None:
    with pytest.raises(SpikeproofError, match="p values"):
        holm([0.1, 1.2])
