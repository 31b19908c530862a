"""The front against its definition in a double loop, its chances against Student's distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from spikeproof.errors import SpikeproofError
from spikeproof.metrics.pareto import chances, front

point = st.tuples(st.integers(0, 4), st.integers(0, 4))


@given(st.lists(point, min_size=1, max_size=8))
def test_the_front_is_what_nobody_beats(points: list[tuple[int, int]]) -> None:
    expected = [not any(a >= x and b >= y and (a, b) != (x, y) for a, b in points) for x, y in points]
    assert front(np.array(points, dtype=float)).tolist() == expected


def test_one_front_for_each_of_a_batch() -> None:
    batch = np.array([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]])
    assert front(batch).tolist() == [[True, False], [False, True]]


def test_the_chance_of_the_better_of_two_is_students() -> None:
    """With one thing to be good at, the front is its best, and the chance that of a paired t-test."""
    generator = np.random.default_rng(0)
    values = np.stack([generator.normal(0.5, 0.1, 4), generator.normal(0.45, 0.1, 4)], axis=1)
    difference = values[:, 0] - values[:, 1]
    error = difference.std(ddof=1) / 2
    expected = t.cdf(difference.mean() / error, 3)
    assert 0.05 < expected < 0.95
    found = chances(values[:, :, None], replicates=20000, seed=0)
    assert found[0] == pytest.approx(expected, abs=0.01)
    assert found.sum() == pytest.approx(1.0)


def test_what_all_seeds_share_costs_no_certainty() -> None:
    """A seed that moves every configuration alike says nothing against the order."""
    values = np.array([[0.5, 0.4], [0.9, 0.8], [0.2, 0.1]])
    assert chances(values[:, :, None], replicates=200, seed=0).tolist() == [1.0, 0.0]


def test_the_same_seed_gives_the_same_and_too_few_seeds_are_refused() -> None:
    values = np.random.default_rng(1).uniform(size=(3, 5, 2))
    assert (chances(values, replicates=100, seed=3) == chances(values, replicates=100, seed=3)).all()
    with pytest.raises(SpikeproofError, match="3 seeds or more"):
        chances(values[:2], replicates=10, seed=0)
