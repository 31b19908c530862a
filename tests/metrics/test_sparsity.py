"""Sparsity measures against their definitions, known distributions, and the changes they must not notice."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import sparsity as twin
from torch import Tensor

from spikeproof.metrics import sparsity
from spikeproof.tensors import image_keys, normal, signs, uniform

NAMES = list(twin.MEASURES)
SCALE_FREE = ["l1_ratio", "hoyer", "gini", "participation"]
D = 3072
entry = st.one_of(st.just(0.0), st.floats(-1e3, 1e3).filter(lambda value: abs(value) > 1e-3))


@st.composite
def gradients(draw: st.DrawFn) -> list[list[float]]:
    """A few images of 2..30 entries, many of them exactly 0, none of them all zero."""
    d = draw(st.integers(2, 30))
    row = st.lists(entry, min_size=d, max_size=d).map(lambda some: some if any(some) else [1.0, *some[1:]])
    return draw(st.lists(row, min_size=1, max_size=3))


def every(g: Tensor) -> Tensor:
    """All measures, (measure, B)."""
    return torch.stack([sparsity.measures(g)[name].double() for name in NAMES])


@given(gradients())
def test_measures_are_their_definitions(rows: list[list[float]]) -> None:
    g = torch.tensor(rows, dtype=torch.float64)
    got = sparsity.measures(g)
    assert list(got) == NAMES
    for name, measure in twin.MEASURES.items():
        assert got[name].tolist() == pytest.approx([measure(row) for row in rows], rel=1e-9, abs=1e-12), name


def test_each_measure_by_its_own_name() -> None:
    g = torch.tensor([[0.0, 3.0, -4.0, 0.0]])
    expected = {
        "zero_share": 0.5,
        "l1": 7.0,
        "l2": 5.0,
        "l1_ratio": 0.7,
        "hoyer": 0.6,
        "gini": 30 / 56,
        "participation": 625 / 337,
    }
    for name, value in expected.items():
        assert getattr(sparsity, name)(g).tolist() == pytest.approx([value])
    assert sparsity.below_share(g, 0.75).item() == 0.75
    assert sparsity.below_share(g, 0.7).item() == 0.5


@given(gradients(), st.randoms(use_true_random=False))
def test_the_order_and_the_shape_do_not_matter(rows: list[list[float]], random: object) -> None:
    g = torch.tensor(rows, dtype=torch.float64)
    order = list(range(g.shape[1]))
    random.shuffle(order)  # type: ignore[attr-defined]
    torch.testing.assert_close(every(g[:, order]), every(g), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(every(g.view(len(g), 1, -1, 1)), every(g), rtol=0, atol=0)
    torch.testing.assert_close(every(-g), every(g), rtol=0, atol=0)


@given(gradients(), st.integers(-40, 40))
def test_shape_measures_ignore_scale_and_norms_follow_it(rows: list[list[float]], exponent: int) -> None:
    g, factor = torch.tensor(rows, dtype=torch.float64), 2.0**exponent
    expected = every(g)
    for norm in ("l1", "l2"):
        expected[NAMES.index(norm)] *= factor
    torch.testing.assert_close(every(factor * g), expected, rtol=1e-9, atol=0)


@given(gradients())
def test_bounds(rows: list[list[float]]) -> None:
    g = torch.tensor(rows, dtype=torch.float64)
    d, tiny = g.shape[1], 1e-9
    bounds = {"l1_ratio": (d**-0.5, 1), "hoyer": (0, 1), "gini": (0, 1 - 1 / d), "participation": (1, d)}
    for name, (low, high) in bounds.items():
        value = getattr(sparsity, name)(g)
        assert (value >= low - tiny).all()
        assert (value <= high + tiny * d).all()
    shares = torch.stack([sparsity.zero_share(g), *(sparsity.below_share(g, tau) for tau in (1e-6, 1e-3, 1e-2, 0.5))])
    assert (shares.diff(dim=0) >= 0).all()
    assert (shares < 1).all()


@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1.0, 1e22, 1e30])
def test_float32_gradients_of_any_size(scale: float) -> None:
    """Fourth powers of 1e-30 are far outside float32: the measures must not feel it."""
    g = scale * torch.tensor([[0.0, 3.0, -4.0, 0.0]])
    for name in SCALE_FREE:
        expected = twin.MEASURES[name]([0.0, 3.0, -4.0, 0.0])
        assert getattr(sparsity, name)(g).item() == pytest.approx(expected, rel=1e-6)
    assert sparsity.l2(g).item() == pytest.approx(5 * scale, rel=1e-6)


def test_an_all_zero_gradient_has_no_shape_and_does_not_touch_its_neighbours() -> None:
    g = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 3.0, -4.0, 0.0]])
    for name in SCALE_FREE:
        value = getattr(sparsity, name)(g)
        assert value[0].isnan()
        assert value[1] == getattr(sparsity, name)(g[1:])[0]
    assert [getattr(sparsity, name)(g)[0].item() for name in ("zero_share", "l1", "l2")] == [1.0, 0.0, 0.0]


def test_an_image_is_measured_the_same_in_any_batch() -> None:
    """Beside a neighbour 10^200 times as large as well."""
    g = torch.tensor([[0.0, 3.0, -4.0, 0.0], [1.0, 2.0, 3.0, 0.0]], dtype=torch.float64)
    g = g * torch.tensor([[1e-100], [1e100]], dtype=torch.float64)
    torch.testing.assert_close(every(g), torch.cat([every(g[:1]), every(g[1:])], 1), rtol=0, atol=0)


def test_one_entry_and_equal_entries() -> None:
    one_hot = torch.zeros(1, 3, 32, 32)
    one_hot[0, 1, 5, 7] = -0.3
    constant = 0.2 * signs(image_keys(0, torch.arange(1)), (3, 32, 32))
    assert sparsity.hoyer(one_hot).item() == pytest.approx(1.0)
    assert sparsity.gini(one_hot).item() == pytest.approx(1 - 1 / D)
    assert sparsity.participation(one_hot).item() == pytest.approx(1.0)
    assert sparsity.zero_share(one_hot).item() == pytest.approx(1 - 1 / D)
    assert sparsity.hoyer(constant).item() == pytest.approx(0.0, abs=1e-6)
    assert sparsity.gini(constant).item() == pytest.approx(0.0, abs=1e-6)
    assert sparsity.participation(constant).item() == pytest.approx(D, rel=1e-6)


def gaussian(keys: Tensor) -> Tensor:
    return normal(keys, (D,))


def laplace(keys: Tensor) -> Tensor:
    return -signs(keys, (D,)) * torch.log(1 - uniform(keys + 1, (D,)).double())


def half_zeroed(keys: Tensor) -> Tensor:
    g = normal(keys, (D,))
    g[:, D // 2 :] = 0
    return g


@pytest.mark.parametrize(
    ("sample", "ratio", "gini", "participation"),
    [
        # Gaussian: E|g| = sqrt(2/pi) sd, Gini of the half-normal sqrt(2) - 1, kurtosis 3.
        (gaussian, math.sqrt(2 / math.pi), math.sqrt(2) - 1, D / 3),
        # Laplace: E|g| = sd / sqrt(2), Gini of the exponential 1/2, kurtosis 6.
        (laplace, math.sqrt(1 / 2), 1 / 2, D / 6),
        # Half the entries zero: the ratio shrinks by sqrt(1/2), and 1 - Gini halves.
        (half_zeroed, math.sqrt(1 / math.pi), math.sqrt(1 / 2), D / 6),
    ],
)
def test_known_distributions(
    sample: Callable[[Tensor], Tensor], ratio: float, gini: float, participation: float
) -> None:
    """Means over 300 images of 3072 entries, within five standard errors and the order-1/d bias of a ratio."""
    images = 300
    g = sample(image_keys(3, torch.arange(images)))
    root = math.sqrt(D)
    expected = {"l1_ratio": ratio, "hoyer": root * (1 - ratio) / (root - 1), "gini": gini}
    for name, value in expected.items():
        got = getattr(sparsity, name)(g).double()
        assert got.std() < 0.01
        assert abs(got.mean().item() - value) < 5 * got.std().item() / images**0.5 + 3 / D
    got = sparsity.participation(g).double()
    assert got.mean().item() == pytest.approx(participation, rel=0.03)
