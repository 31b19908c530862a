"""Robustness that is made to follow scale, or shape, or neither: the estimates must say which."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from spikeproof.metrics.association import Association, associate, associations, spearman
from spikeproof.metrics.resampling import draws


def simulated(shape: float, scale: float, *, seeds: int = 3, size: int = 40, tied: float = 0.6) -> Association:
    """y = shape * x + scale * z + noise, with x and z correlated by `tied`; the same configurations for every seed."""
    generator = np.random.default_rng(7)
    x = generator.normal(size=size)
    z = tied * x + (1 - tied**2) ** 0.5 * generator.normal(size=size)
    noise = generator.normal(0, 0.3, (3, seeds, size))
    found = shape * x + scale * z + noise[0]
    drawn = draws(list(range(size)), np.zeros(size), seeds, replicates=300, seed=0)
    return associate(x + 0.1 * noise[1], found, z + 0.1 * noise[2], np.zeros(size), drawn)


def test_where_scale_decides_shape_goes_along_until_scale_is_held() -> None:
    found = simulated(0.0, -1.0)
    assert found.plain.over_units is not None
    assert found.plain.over_units.side == -1  # shape goes along with scale,
    assert found.shape.over_units is not None
    assert found.shape.over_units.side == 0  # and says nothing of its own
    assert found.scale.over_seeds is not None
    assert found.scale.over_seeds.side == -1
    assert found.lead.over_units is not None
    assert found.lead.over_units.side == found.lead.over_seeds.side == 1  # type: ignore[union-attr]


def test_where_shape_decides_it_is_the_other_way_round() -> None:
    found = simulated(1.0, 0.0)
    assert found.shape.over_units is not None
    assert found.shape.over_units.side == 1
    assert found.scale.over_units is not None
    assert found.scale.over_units.side == 0
    assert found.lead.over_units is not None
    assert found.lead.over_units.side == -1


def test_where_neither_decides_nothing_is_found() -> None:
    found = simulated(0.0, 0.0)
    assert all(part.over_units is not None and part.over_units.side == 0 for part in found[:4])


def test_the_value_is_the_mean_over_seeds_of_spearmans_rho() -> None:
    generator = np.random.default_rng(2)
    x, y, z = generator.normal(size=(3, 4, 9))
    x[2, 5] = np.nan  # one cell is missing; its seed keeps the other eight
    found = associate(x, y, z, np.zeros(9), None)
    each = [spearmanr(*(v[s][np.isfinite(x[s])] for v in (x, y))).statistic for s in range(4)]
    assert found.plain.value == pytest.approx(np.mean(each))
    assert (found.plain.seeds, found.plain.points) == (4, 8)
    assert found.plain.over_units is None


def test_a_shift_of_a_whole_seed_is_not_noticed() -> None:
    generator = np.random.default_rng(3)
    x, y, z = generator.normal(size=(3, 3, 10))
    moved = associate(x, y + np.array([[0.0], [5.0], [-90.0]]), z, np.zeros(10), None)
    assert moved == associate(x, y, z, np.zeros(10), None)


def test_what_does_not_vary_is_named() -> None:
    x, z = np.random.default_rng(4).normal(size=(2, 3, 8))
    found = associate(x, np.zeros((3, 8)), z, np.zeros(8), None)
    assert found.plain.value is None
    assert found.constant == ("y",)
    strata = np.array([0, 1] * 4)
    between = np.tile(strata.astype(float), (3, 1))
    assert associate(between, x, z, strata, None).constant == ("x",)  # it varies between the strata alone


def test_scale_cannot_be_held_where_it_orders_as_shape_does() -> None:
    x, y = np.random.default_rng(5).normal(size=(2, 3, 8))
    found = associate(x, y, -np.exp(x), np.zeros(8), None)
    assert found.plain.value is not None
    assert found.shape.value is None
    assert found.constant == ()


def test_fewer_than_six_configurations_have_no_correlation() -> None:
    x, y, z = np.random.default_rng(6).normal(size=(3, 3, 5))
    assert associate(x, y, z, np.zeros(5), None).plain.value is None


def test_what_is_asked_alone_is_what_it_is_among_all() -> None:
    generator = np.random.default_rng(3)
    x, y = ({n: generator.normal(size=(3, 12)) for n in names} for names in ("ab", "cd"))
    y["d"][1, 4] = np.nan  # another pair has other configurations that are whole
    z, strata = generator.normal(size=(3, 12)), np.repeat([0, 1], 6)
    drawn = draws(list(range(12)), strata, 3, replicates=50, seed=0)
    every = associations(x, y, z, strata, drawn)
    asked = {("a", "d"), ("b", "c")}
    assert associations(x, y, z, strata, drawn, asked) == {key: every[key] for key in every if key in asked}
    assert every["b", "d"] == associate(x["b"], y["d"], z, strata, drawn)


def test_a_rank_correlation_is_spearmans() -> None:
    generator = np.random.default_rng(5)
    pairs = [(float(a), float(b)) for a, b in generator.integers(0, 6, (30, 2))]
    assert spearman(pairs) == pytest.approx(spearmanr(*zip(*pairs, strict=True)).statistic, abs=1e-12)
    assert spearman([(1.0, 2.0), (1.0, 3.0)]) is None
    assert spearman([(1.0, 2.0)]) is None
    assert spearman([]) is None
