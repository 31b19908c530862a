"""Rank correlations against SciPy, against residuals, and against the changes they must not notice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from spikeproof.metrics._ranks import centred, correlation, partial

few = st.integers(-4, 4).map(float)


@st.composite
def triples(draw: st.DrawFn) -> np.ndarray:
    """Three variables (3,C) with many ties, none of them constant."""
    size = draw(st.integers(6, 12))
    variable = st.lists(few, min_size=size, max_size=size).filter(lambda values: len(set(values)) > 1)
    return np.array([draw(variable) for _ in range(3)])


def rho(x: np.ndarray, y: np.ndarray, strata: np.ndarray | None = None, weights: np.ndarray | None = None) -> float:
    strata = np.zeros(len(x)) if strata is None else strata
    weights = np.ones((1, len(x))) if weights is None else weights
    return float(correlation(centred(x, strata, weights), centred(y, strata, weights), weights)[0])


@given(triples())
def test_one_stratum_is_spearmans_rho(columns: np.ndarray) -> None:
    x, y, _ = columns
    assert rho(x, y) == pytest.approx(spearmanr(x, y).statistic, abs=1e-9)


@given(triples(), st.data())
def test_a_weight_is_a_repetition(columns: np.ndarray, data: st.DataObject) -> None:
    x, y, _ = columns
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(x), max_size=len(x))))
    again = np.repeat(x, weights), np.repeat(y, weights)
    got = rho(x, y, weights=weights[None, :].astype(float))
    if all(len(set(side.tolist())) > 1 for side in again):
        assert got == pytest.approx(spearmanr(*again).statistic, abs=1e-9)
    else:
        assert np.isnan(got)


@given(triples())
def test_a_partial_correlation_is_that_of_residuals(columns: np.ndarray) -> None:
    """Ranks of x and of y, each less its regression on the ranks of z, are correlated as the formula says."""
    ranks = [centred(v, np.zeros(len(v)), np.ones((1, len(v))))[0] for v in columns]
    x, y, z = ranks
    pairs = [np.array([spearmanr(columns[i], columns[j]).statistic]) for i, j in ((0, 1), (0, 2), (1, 2))]
    got = float(partial(*pairs)[0])
    left = [v - z * (v @ z) / (z @ z) for v in (x, y)]
    if min(float(v @ v) for v in left) < 1e-6:
        return  # nothing is left to correlate; the next test asks what is said then
    assert got == pytest.approx(np.corrcoef(*left)[0, 1], abs=1e-6)


def test_nothing_is_left_where_two_orders_are_one() -> None:
    assert np.isnan(partial(np.array([0.4]), np.array([1.0]), np.array([0.4]))[0])
    assert np.isnan(partial(np.array([0.4]), np.array([0.4]), np.array([-1.0]))[0])
    assert np.isnan(rho(np.ones(6), np.arange(6.0)))


def test_the_closed_form_of_a_chain() -> None:
    """x -> z -> y with correlations a and b: x and y go together by ab, and not at all once z is held."""
    a, b = np.array([0.6]), np.array([-0.7])
    assert partial(a * b, a, b)[0] == pytest.approx(0.0)


@given(triples(), st.sampled_from(["exp", "cube", "affine"]))
def test_a_monotone_change_is_not_noticed(columns: np.ndarray, name: str) -> None:
    change = {"exp": np.exp, "cube": lambda v: v**3, "affine": lambda v: 3 * v - 7}[name]
    x, y, _ = columns
    assert rho(change(x), y) == pytest.approx(rho(x, y), abs=1e-12)
    assert rho(-change(x), y) == pytest.approx(-rho(x, y), abs=1e-12)


def test_groups_that_lie_apart_do_not_turn_the_sign() -> None:
    """Simpson's paradox: y rises with x in both groups, and falls over all points together."""
    x, y = np.array([1.0, 2, 3, 11, 12, 13]), np.array([11.0, 12, 13, 1, 2, 3])
    assert spearmanr(x, y).statistic < 0
    assert rho(x, y, np.array([0, 0, 0, 1, 1, 1])) == pytest.approx(1.0)


def test_strata_of_different_size_count_by_their_points() -> None:
    """Ranks are shares, so a group of many points does not drown a small one by the height of its ranks alone."""
    strata = np.array([0] * 10 + [1] * 10)
    x = np.concatenate([np.arange(10.0), np.arange(10.0)])
    y = np.concatenate([np.arange(10.0), -np.arange(10.0)])
    assert rho(x, y, strata) == pytest.approx(0.0, abs=1e-12)
