"""Threat models: projections that are admissible, steady and (L-inf, L1) nearest; steepest steps; keyed starts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles.shortest import l1_nearest
from scipy.optimize import minimize
from torch import Tensor

from spikeproof import parts, threats
from spikeproof.errors import UsageError
from spikeproof.tensors import image_keys
from spikeproof.threats.l1 import L1
from spikeproof.threats.l2 import L2
from spikeproof.threats.linf import Linf

THREATS = [Linf(0.1), Linf("8/255"), Linf(0.0), Linf(1.0), L2(0.5), L2("128/255"), L2(0.0), L2(3.0),
           L1(2.0), L1("510/255"), L1(0.0), L1(40.0)]  # fmt: skip
each_threat = pytest.mark.parametrize("threat", THREATS, ids=lambda threat: f"{type(threat).__name__}-{threat.eps:.3g}")
pixel = st.floats(0, 1, width=32)
anywhere = st.floats(-3, 4, width=32)


def keys(count: int, seed: int = 0) -> Tensor:
    return image_keys(seed, torch.arange(count))


def test_every_threat_is_found_in_its_folder_by_its_class() -> None:
    for name in parts.names("threats"):
        found = parts.find("threats", name)
        assert getattr(threats, found.__name__) is found
    assert threats.Linf is Linf
    assert {*threats.__all__} == {parts.find("threats", name).__name__ for name in parts.names("threats")}
    assert {*threats.__all__} <= {*dir(threats)}
    assert not hasattr(threats, "__wrapped__")
    with pytest.raises(AttributeError, match="has no attribute 'L3'"):
        _ = threats.L3


def assert_admissible(threat: Any, x: Tensor, x0: Tensor) -> None:
    assert x.min() >= 0
    assert x.max() <= 1
    assert threat.distance(x, x0).max() <= threat.eps + 1e-6


def clean(images: int = 4, seed: int = 0) -> Tensor:
    """Pixels with many at the very ends of the box."""
    x = torch.rand(images, 3, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (1.6 * x - 0.3).clamp(0, 1)


@pytest.mark.parametrize("cls", [Linf, L2, L1])
def test_eps_as_a_fraction(cls: Any) -> None:
    assert cls("8/255").eps == 8 / 255
    assert cls(0.03).eps == 0.03
    for wrong in ("x", "1/0", -0.1, "-8/255", float("nan"), float("inf")):
        with pytest.raises(UsageError, match="eps"):
            cls(wrong)


def test_distances_by_hand() -> None:
    x0 = torch.zeros(2, 1, 2, 2, dtype=torch.float64)
    x = torch.tensor([[0.3, -0.4, 0.0, 0.0], [0.1, 0.1, -0.1, 0.1]], dtype=torch.float64).view(2, 1, 2, 2)
    assert Linf(1).distance(x, x0).tolist() == [0.4, 0.1]
    assert L2(1).distance(x, x0).tolist() == pytest.approx([0.5, 0.2])
    assert L1(1).distance(x, x0).tolist() == pytest.approx([0.7, 0.4])


@each_threat
def test_a_projection_is_admissible_and_steady(threat: Any) -> None:
    x0 = clean()
    far = x0 + 2 * torch.randn(x0.shape, generator=torch.Generator().manual_seed(1), dtype=x0.dtype)
    once = threat.project(far, x0)
    assert_admissible(threat, once, x0)
    torch.testing.assert_close(threat.project(once, x0), once, rtol=0, atol=1e-12)
    torch.testing.assert_close(threat.project(x0, x0), x0, rtol=0, atol=0)


@each_threat
def test_a_projection_leaves_an_admissible_point_alone(threat: Any) -> None:
    x0 = clean()
    for seed in range(5):
        inside = threat.sample(x0, keys(4, seed))
        torch.testing.assert_close(threat.project(inside, x0), inside, rtol=0, atol=1e-12)


@given(st.lists(st.tuples(pixel, anywhere), min_size=1, max_size=12), st.floats(0, 1.5, width=32))
def test_projections_of_any_float32_point(pairs: list[tuple[float, float]], eps: float) -> None:
    x0, x = torch.tensor(pairs).T.reshape(2, 1, -1)
    for threat in (Linf(eps), L2(eps), L1(eps)):
        once = threat.project(x, x0)
        assert_admissible(threat, once, x0)
        torch.testing.assert_close(threat.project(once, x0), once, rtol=0, atol=1e-6)


@given(st.tuples(pixel, pixel, pixel), st.tuples(anywhere, anywhere, anywhere), st.sampled_from([0.05, 0.3, 1.0]))
def test_the_linf_projection_is_the_nearest_point(
    centre: tuple[float, ...], outside: tuple[float, ...], eps: float
) -> None:
    """Against a fine grid over every admissible point of a three-pixel image, its corners and faces included."""
    x0, x = torch.tensor([centre, outside], dtype=torch.float64)
    nearest = Linf(eps).project(x[None], x0[None])[0]
    axes = [torch.linspace(max(0.0, c - eps), min(1.0, c + eps), 15, dtype=torch.float64) for c in centre]
    best = (torch.cartesian_prod(*axes) - x).norm(dim=1).min()
    assert_admissible(Linf(eps), nearest[None], x0[None])
    assert (nearest - x).norm() <= best + 1e-12


@given(st.tuples(anywhere, anywhere, anywhere))
def test_the_l2_projection_is_the_nearest_point_where_the_box_does_not_bind(outside: tuple[float, ...]) -> None:
    """The nearest point of a ball is in the direction of the outside point: no point of a dense sphere is nearer."""
    x0, x, eps = torch.full((3,), 0.5, dtype=torch.float64), torch.tensor(outside, dtype=torch.float64), 0.4
    nearest = L2(eps).project(x[None], x0[None])[0]
    cosine = torch.linspace(-1, 1, 41, dtype=torch.float64)
    turn = torch.linspace(0, 6.2, 60, dtype=torch.float64)
    height, angle = torch.cartesian_prod(cosine, turn).T
    flat = (1 - height**2).sqrt()
    sphere = x0 + eps * torch.stack([flat * angle.cos(), flat * angle.sin(), height], 1)
    if (x - x0).norm() > eps:
        assert (nearest - x).norm() <= (sphere - x).norm(dim=1).min() + 1e-12
    else:
        torch.testing.assert_close(nearest, x, rtol=0, atol=1e-12)


@given(st.lists(st.tuples(pixel, anywhere), min_size=1, max_size=12), st.floats(0, 3, width=32))
def test_the_l1_projection_is_the_nearest_point(pairs: list[tuple[float, float]], eps: float) -> None:
    """Against a plain bisection, whether the ball binds, the box, both or none."""
    x0, x = torch.tensor(pairs, dtype=torch.float64).T.reshape(2, 1, -1)
    expected = torch.tensor([l1_nearest(x[0].tolist(), x0[0].tolist(), eps)], dtype=torch.float64)
    torch.testing.assert_close(L1(eps).project(x, x0), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("eps", [0.05, 0.5, 1.5, 6.0])
def test_no_solver_finds_a_nearer_point_of_the_l1_ball(eps: float) -> None:
    """SciPy's quadratic programme over rises and falls, each within its room, that together cost at most eps."""
    x0 = clean(6).flatten(1)[:, :8]
    x = x0 + torch.randn(x0.shape, generator=torch.Generator().manual_seed(3), dtype=x0.dtype)
    nearest = L1(eps).project(x, x0)
    for i, (centre, goal) in enumerate(zip(x0.numpy(), x.numpy(), strict=True)):
        off = lambda s, centre=centre, goal=goal: centre + s[:8] - s[8:] - goal  # noqa: E731
        best = minimize(
            lambda s, off=off: off(s) @ off(s),
            [0.0] * 16,
            jac=lambda s, off=off: 2 * np.r_[off(s), -off(s)],
            bounds=[(0, 1 - c) for c in centre] + [(0, c) for c in centre],
            constraints={"type": "ineq", "fun": lambda s: eps - s.sum(), "jac": lambda s: -np.ones(16)},
            options={"ftol": 1e-13, "maxiter": 300},
        )
        assert best.success
        assert float((nearest[i] - x[i]).square().sum()) == pytest.approx(best.fun, abs=1e-6)


@pytest.mark.parametrize("eps", [0.5, 12.0, 300.0])
def test_an_l1_projection_of_a_large_float32_image_keeps_the_budget(eps: float) -> None:
    """Thousands of roundings: summed in float64, not one part in a million too far, and nothing wasted."""
    x0 = (1.4 * torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(4)) - 0.2).clamp(0, 1)
    x = x0 + 0.3 * torch.randn(x0.shape, generator=torch.Generator().manual_seed(5))
    spent = (L1(eps).project(x, x0).double() - x0.double()).flatten(1).abs().sum(1)
    assert (spent <= eps * (1 + 1e-9)).all()
    assert (spent >= eps * (1 - 1e-5) - 1e-3).all()


def test_an_l1_step_is_spread_over_the_steepest_share() -> None:
    g = torch.tensor([[0.1, -4.0, 3.0, 0.0, 2.0, -1.0, 0.5, 0.2, 0.3, 0.4]])
    assert L1(1, share=0.3).ascend(g).tolist()[0] == pytest.approx([0, -1 / 3, 1 / 3, 0, 1 / 3, 0, 0, 0, 0, 0])
    assert L1(1, share=0.21).ascend(g).count_nonzero() == 3
    assert L1(1).ascend(g).tolist()[0] == [0, -1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert L1(1, share=1.0).ascend(g).count_nonzero() == 9
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match="share"):
            L1(1, share=wrong)


def test_the_steepest_unit_step() -> None:
    """No admissible step of size 1 gains more to first order, and the bound is attained: the dual norm."""
    g = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    flat = g.flatten(1)
    for threat, dual in [
        (Linf(1), flat.abs().sum(1)),
        (L2(1), flat.norm(dim=1)),
        (L1(1, share=0.0), flat.abs().amax(1)),
    ]:
        step = threat.ascend(g)
        zero = torch.zeros_like(g)
        torch.testing.assert_close(threat.distance(step, zero), torch.ones(5, dtype=g.dtype))
        torch.testing.assert_close((step * g).flatten(1).sum(1), dual)


@pytest.mark.parametrize("threat", [Linf(1), L2(1), L1(1)])
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e15])
def test_a_step_ignores_the_scale_of_the_gradient_and_a_zero_stays(threat: Any, scale: float) -> None:
    g = torch.tensor([[3.0, 0.0, -4.0], [0.0, 0.0, 0.0]])
    expected = {"Linf": [1, 0, -1], "L2": [0.6, 0, -0.8], "L1": [0, 0, -1]}[threat.norm]
    torch.testing.assert_close(threat.ascend(scale * g), torch.tensor([expected, [0, 0, 0]], dtype=torch.float32))


@each_threat
def test_a_start_is_admissible_and_the_image_s_own(threat: Any) -> None:
    x0 = clean(6)
    start = threat.sample(x0, keys(6))
    assert_admissible(threat, start, x0)
    order = torch.tensor([5, 2, 0, 4, 1, 3])
    assert torch.equal(threat.sample(x0[order], keys(6)[order]), start[order])
    assert torch.equal(threat.sample(x0[3:4], keys(6)[3:4]), start[3:4])
    assert torch.equal(threat.sample(x0, keys(6, seed=1)), start) == (threat.eps == 0)


def test_linf_starts_are_uniform_in_the_ball() -> None:
    x0 = torch.full((50, 1000), 0.5)
    shift = ((Linf(0.25).sample(x0, keys(50)) - x0) / 0.25).flatten()
    counts = torch.histc(shift, bins=10, min=-1, max=1)
    assert counts.sum() == 50_000
    # Five binomial standard deviations of a bin with one tenth of the draws.
    assert (counts - 5000).abs().max() < 5 * (50_000 * 0.1 * 0.9) ** 0.5


def test_l2_starts_have_uniform_radii_and_no_favoured_direction() -> None:
    x0 = torch.full((4000, 3), 0.5)
    shift = L2(0.25).sample(x0, keys(4000)) - x0
    radii = shift.norm(dim=1) / 0.25
    counts = torch.histc(radii, bins=8, min=0, max=1)
    assert (counts - 500).abs().max() < 5 * (4000 / 8 * 7 / 8) ** 0.5
    # A coordinate of a random unit vector in three dimensions is uniform on [-1, 1].
    coordinates = shift / shift.norm(dim=1, keepdim=True)
    assert coordinates.mean(0).abs().max() < 5 * (1 / 3 / 4000) ** 0.5
    assert (coordinates.square().mean(0) - 1 / 3).abs().max() < 5 * ((1 / 5 - 1 / 9) / 4000) ** 0.5


def test_l1_starts_have_uniform_radii_and_no_favoured_coordinate() -> None:
    x0 = torch.full((4000, 3), 0.5)
    shift = L1(0.25).sample(x0, keys(4000)) - x0
    radii = shift.abs().sum(1) / 0.25
    counts = torch.histc(radii, bins=8, min=0, max=1)
    assert (counts - 500).abs().max() < 5 * (4000 / 8 * 7 / 8) ** 0.5
    # On the l1 sphere in three dimensions a size is a share of three exponentials: mean 1/3, variance 1/18.
    shares = shift.abs() / shift.abs().sum(1, keepdim=True)
    assert (shares.mean(0) - 1 / 3).abs().max() < 5 * (1 / 18 / 4000) ** 0.5
    assert (shift.sign().mean(0)).abs().max() < 5 / 4000**0.5
