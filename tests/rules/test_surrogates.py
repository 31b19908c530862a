"""Surrogate rules against closed forms, finite differences and published values; spikes stay exactly 0 or 1."""

from __future__ import annotations

import importlib
import math
from typing import Any

import pytest
import torch
from oracles.surrogates import SURROGATES
from torch import Tensor

from spikeproof.errors import UsageError
from spikeproof.neurons.if_ import IF
from spikeproof.neurons.lif import LIF

CLASSES = {
    "atan": "ATan",
    "sigmoid": "Sigmoid",
    "triangle": "Triangle",
    "rectangle": "Rectangle",
    "gaussian": "Gaussian",
}
RULES = {name: getattr(importlib.import_module(f"spikeproof.rules.{name}"), cls) for name, cls in CLASSES.items()}
DEFAULTS = {"atan": 2.0, "sigmoid": 4.0, "triangle": 1.0, "rectangle": 2.0, "gaussian": 2.0}
ALPHAS = [0.5, 1.0, 2.0, 4.0, 13.0]
names = pytest.mark.parametrize("name", RULES)
alphas = pytest.mark.parametrize("alpha", ALPHAS)


def slope(rule: Any, points: Tensor) -> Tensor:
    """The derivative of the primitive, as backpropagation sees it."""
    x = points.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(rule.primitive(x).sum(), x)
    return gradient


def grid(name: str, alpha: float, gap: float) -> Tensor:
    """Points of [-4, 4], none nearer than `gap` to a place where the derivative breaks."""
    x = torch.linspace(-4, 4, 1601, dtype=torch.float64) + 1e-4
    for edge in SURROGATES[name].edges(alpha):
        x = x[(x - edge).abs() > gap]
    return x


@names
def test_default_sharpness(name: str) -> None:
    rule = RULES[name]()
    assert (rule.alpha, rule.through_time, rule.through_reset) == (DEFAULTS[name], True, False)


@pytest.mark.parametrize(
    ("name", "alpha", "quarter", "zero"),
    [
        ("atan", 2.0, 0.618486, 1.0),
        ("sigmoid", 4.0, 0.786448, 1.0),
        ("triangle", 2.0, 1.0, 2.0),
        ("rectangle", 2.0, 1.0, 1.0),
        ("gaussian", 2.0, 0.704131, 0.797885),
    ],
)
def test_known_values(name: str, alpha: float, quarter: float, zero: float) -> None:
    points = torch.tensor([0.25, -0.25, 0.0], dtype=torch.float64)
    assert slope(RULES[name](alpha=alpha), points).tolist() == pytest.approx([quarter, quarter, zero], abs=1e-6)


@names
@alphas
def test_derivative_is_the_closed_form(name: str, alpha: float) -> None:
    x = grid(name, alpha, 1e-9)
    expected = torch.tensor([SURROGATES[name].derivative(v, alpha) for v in x.tolist()], dtype=torch.float64)
    torch.testing.assert_close(slope(RULES[name](alpha=alpha), x), expected, rtol=1e-9, atol=1e-12)


@names
@alphas
def test_primitive_is_the_closed_form(name: str, alpha: float) -> None:
    x = torch.linspace(-4, 4, 1601, dtype=torch.float64)
    expected = torch.tensor([SURROGATES[name].primitive(v, alpha) for v in x.tolist()], dtype=torch.float64)
    torch.testing.assert_close(RULES[name](alpha=alpha).primitive(x), expected, rtol=0, atol=1e-12)


@names
@alphas
def test_derivative_is_the_finite_difference(name: str, alpha: float) -> None:
    rule, step = RULES[name](alpha=alpha), 1e-5
    x = grid(name, alpha, 2 * step)
    difference = (rule.primitive(x + step) - rule.primitive(x - step)) / (2 * step)
    # The difference errs by about step^2 / 6 times the third derivative, which is of the order of alpha^3.
    torch.testing.assert_close(slope(rule, x), difference, rtol=0, atol=1e-9 + 10 * step**2 * alpha**3)


@names
@alphas
def test_primitive_is_a_bounded_step(name: str, alpha: float) -> None:
    rule = RULES[name](alpha=alpha)
    x = torch.tensor([-1e30, -1e3, -1.0, 0.0, 1.0, 1e3, 1e30])
    value = rule.primitive(x)
    assert value[3] == 0.5
    assert (value.diff() >= 0).all()
    assert (value[0].item(), value[-1].item()) == pytest.approx((0.0, 1.0), abs=1e-6)
    gradient = slope(rule, x)
    assert torch.isfinite(gradient).all()
    assert (gradient >= 0).all()


@names
def test_mass_is_one(name: str) -> None:
    rule = RULES[name](alpha=DEFAULTS[name])
    # Midpoints of cells of 1/2000: every kink and jump lies on a cell's border, so the midpoint rule does not see it.
    midpoints = (torch.arange(-120_000, 120_000, dtype=torch.float64) + 0.5) / 2000
    mass = 0.99662 if name == "atan" else 1.0  # the tails of ATan beyond 60 carry the rest
    assert slope(rule, midpoints).sum().item() / 2000 == pytest.approx(mass, abs=1e-5)


@pytest.mark.parametrize("name", ["triangle", "rectangle"])
@alphas
def test_compact_support_is_open_and_exactly_zero_outside(name: str, alpha: float) -> None:
    edge = 1 / alpha
    x = torch.tensor([-3 * edge, -1.001 * edge, 1.001 * edge, 3 * edge], dtype=torch.float64)
    assert slope(RULES[name](alpha=alpha), x).tolist() == [0.0] * 4
    if math.log2(alpha) == round(math.log2(alpha)):  # alpha x is exactly 1 only where 1 / alpha is a float
        ends = torch.tensor([-edge, edge], dtype=torch.float64)
        assert slope(RULES[name](alpha=alpha), ends).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", ["atan", "sigmoid", "gaussian"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wide_surrogates_have_no_one_sided_dead_zone(name: str, dtype: torch.dtype) -> None:
    """sigma (1 - sigma) is exactly 0 in float32 at alpha x = 20, though the sigmoid's derivative there is 8.2e-9."""
    x = torch.tensor([-5.0, 5.0], dtype=dtype)
    left, right = slope(RULES[name](alpha=4.0 if name == "sigmoid" else 1.0), x).tolist()
    assert left == right > 0
    if name == "sigmoid":
        assert right == pytest.approx(8.2446e-9, rel=1e-4)


@names
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("through_reset", [False, True])
def test_spikes_are_exact_with_and_without_a_graph(name: str, dtype: torch.dtype, through_reset: bool) -> None:
    rule = RULES[name](through_reset=through_reset)
    steps, images = 6, 500
    ramp = torch.arange(steps * images).view(steps, images)
    currents = (((ramp * 7919) % 4001 - 1000) / 1000).to(dtype)  # spread over -1..3
    for neuron in (IF(), LIF(tau=1.7, v_reset=None)):
        with torch.no_grad():
            plain = rule(neuron, currents, "site")
        grafted = rule(neuron, currents.clone().requires_grad_(), "site")
        assert grafted.requires_grad
        assert grafted.dtype == dtype
        assert set(grafted.detach().unique().tolist()) == {0.0, 1.0}
        assert torch.equal(grafted, plain)


@names
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_a_membrane_at_its_threshold_fires(name: str, dtype: torch.dtype) -> None:
    below = torch.nextafter(torch.tensor(1.0, dtype=dtype), torch.tensor(0.0, dtype=dtype))
    currents = torch.stack([torch.tensor(1.0, dtype=dtype), below])[None]
    for x in (currents, currents.clone().requires_grad_()):
        assert RULES[name]()(IF(), x, "site").tolist() == [[1.0, 0.0]]


@names
@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan")])
def test_a_sharpness_that_is_not_positive_is_refused(name: str, alpha: float) -> None:
    with pytest.raises(UsageError, match="alpha"):
        RULES[name](alpha=alpha)
