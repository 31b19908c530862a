"""Straight-through, BPTR, RGA, HART and PDSG against scalar twins, published values and their own invariants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from oracles import estimators
from oracles.neurons import Physics, forward
from torch import Tensor

from spikeproof.errors import UsageError
from spikeproof.neurons.if_ import IF
from spikeproof.neurons.lif import LIF
from spikeproof.neurons.plif import PLIF
from spikeproof.rules.bptr import BPTR
from spikeproof.rules.hart import HART
from spikeproof.rules.pdsg import PDSG
from spikeproof.rules.rga import RGA
from spikeproof.rules.straight_through import StraightThrough
from spikeproof.rules.triangle import Triangle
from spikeproof.tensors import exact, image_keys, normal

T, N = 6, 40
KEYS = image_keys(11, torch.arange(N))

NEURONS: dict[str, tuple[Any, Physics]] = {
    "if": (IF(), Physics()),
    "if soft": (IF(v_reset=None), Physics(v_reset=None)),
    "lif": (LIF(), Physics(tau=2.0)),
    "lif theta 1/2": (LIF(tau=1.6, v_threshold=0.5), Physics(tau=1.6, v_threshold=0.5)),
    "lif soft": (LIF(tau=1.6, v_reset=None), Physics(tau=1.6, v_reset=None)),
    "lif gain 1": (LIF(decay_input=False), Physics(tau=2.0, decay_input=False)),
    "lif leak 0.9": (
        LIF(tau=10.0, decay_input=False, v_threshold=0.8),
        Physics(tau=10.0, decay_input=False, v_threshold=0.8),
    ),
}
each_neuron = pytest.mark.parametrize("name", NEURONS)


def inputs(scale: float = 1.2, shift: float = 0.5) -> Tensor:
    """Currents (T,N,1) of N images of one neuron: some silent, some firing at every step, most in between."""
    return (shift + scale * normal(KEYS, (T, 1)).double()).transpose(0, 1)


def weights() -> Tensor:
    """dL/ds (T,N,1), of both signs."""
    return normal(image_keys(12, torch.arange(N)), (T, 1)).double().transpose(0, 1)


def gradient(rule: Any, neuron: Any, currents: Tensor, upstream: Tensor) -> Tensor:
    x = currents.clone().requires_grad_()
    (found,) = torch.autograd.grad((rule(neuron, x, "site") * upstream).sum(), x)
    return found


def column(x: Tensor, image: int) -> list[float]:
    return [float(value) for value in x[:, image, 0]]


def twin(formula: Any, physics: Physics, currents: Tensor, upstream: Tensor, *extra: Any) -> Tensor:
    """The twin's gradients of all images, (T,N,1)."""
    rows = [formula(physics, column(currents, i), column(upstream, i), *extra) for i in range(currents.shape[1])]
    return torch.tensor(rows, dtype=torch.float64).t()[:, :, None]


def agree(found: Tensor, expected: Tensor) -> None:
    assert expected.abs().max() > 0.05
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@each_neuron
@pytest.mark.parametrize("through_time", [True, False])
@pytest.mark.parametrize("through_reset", [True, False])
def test_straight_through_is_the_recursion_with_slope_1(name: str, through_time: bool, through_reset: bool) -> None:
    neuron, physics = NEURONS[name]
    rule = StraightThrough(through_time=through_time, through_reset=through_reset)
    expected = twin(estimators.straight_through, physics, inputs(), weights(), through_time, through_reset)
    agree(gradient(rule, neuron, inputs(), weights()), expected)


@each_neuron
def test_bptr_is_its_twin(name: str) -> None:
    neuron, physics = NEURONS[name]
    x = inputs(scale=0.7, shift=0.2)
    fired = exact(neuron, x, "site").sum(0)
    assert (fired == 0).any()
    assert (fired == 1).any()
    agree(gradient(BPTR(), neuron, x, weights()), twin(estimators.bptr, physics, x, weights()))


def test_bptr_passes_all_or_nothing_at_every_step() -> None:
    """A neuron that fired once, at the last step, passes everything from the first; a silent one exactly nothing."""
    x = torch.tensor([[0.0, 0.3], [0.0, 0.3], [0.0, 0.3], [1.5, 0.05]], dtype=torch.float64)[:, None]
    assert exact(IF(), x, "site").sum(0).tolist() == [[1.0, 0.0]]
    upstream = torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64)[:, None, None].expand(4, 1, 2)
    found = gradient(BPTR(), IF(), x, upstream)
    assert found[:, 0, 0].tolist() == [1.0, -2.0, 3.0, 0.5]
    assert found[:, 0, 1].tolist() == [0.0] * 4


@pytest.mark.parametrize(
    ("leak", "theta", "knee", "upper"),
    [
        (1.0, 1.0, 0.0, 0.5),
        (0.5, 1.0, 0.5, 0.6),
        (0.9, 1.0, 0.1, 0.515789),
        (0.99, 1.0, 0.01, 0.501508),
        (0.5, 0.5, 0.25, 1.266667),
    ],
)
def test_rga_knee_and_slope(leak: float, theta: float, knee: float, upper: float) -> None:
    if leak == 1:
        neuron: Any = IF(v_threshold=theta)
    else:
        neuron = LIF(tau=1 / (1 - leak), decay_input=False, v_threshold=theta)
    above = torch.tensor([knee + 1e-6, 1.3 * theta, 2 * theta - 1e-6], dtype=torch.float64)
    torch.testing.assert_close(RGA().slope(neuron, above), torch.full_like(above, upper), rtol=2e-6, atol=0)
    if knee > 0:
        below = torch.tensor([0.0, knee / 2, knee - 1e-9], dtype=torch.float64)
        assert RGA().slope(neuron, below).tolist() == [0.2] * 3
    outside = torch.tensor([-1e-9, -1.0, 2 * theta + 1e-9, 9.0], dtype=torch.float64)
    assert RGA().slope(neuron, outside).tolist() == [0.0] * 4


@pytest.mark.parametrize("leak", [0.5, 0.75])
def test_rga_counts_the_knee_once(leak: float) -> None:
    """Exactly at the knee the lower slope holds, not the sum of both."""
    neuron = LIF(tau=1 / (1 - leak), decay_input=False)
    assert RGA().slope(neuron, torch.tensor([1 - leak], dtype=torch.float64)).tolist() == [0.2]


@pytest.mark.parametrize("theta", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("high", [1.5, 2.0])
def test_rga_without_a_leak_has_one_slope(theta: float, high: float) -> None:
    """1 / (high theta) on [0, high theta], both ends included."""
    mean = torch.tensor([0.0, 1e-9, theta, high * theta], dtype=torch.float64)
    found = RGA(high=high).slope(IF(v_threshold=theta), mean)
    torch.testing.assert_close(found, torch.full_like(mean, 1 / (high * theta)), rtol=1e-12, atol=0)


@pytest.mark.parametrize("leak", [0.5, 0.9, 1.0])
@pytest.mark.parametrize("low", [0.0, 0.2, 0.7])
@pytest.mark.parametrize("high", [1.25, 2.0])
def test_rga_slope_is_that_of_a_line_through_three_points(leak: float, low: float, high: float) -> None:
    theta, step = 0.8, 1e-6
    neuron: Any = IF(v_threshold=theta)
    if leak < 1:
        neuron = LIF(tau=1 / (1 - leak), decay_input=False, v_threshold=theta)
    breaks = [0.0, (1 - leak) * theta, high * theta]
    means = [x for x in np.linspace(-0.5, 2.5, 301).tolist() if all(abs(x - b) > 2 * step for b in breaks)]

    def curve(x: float) -> float:
        return estimators.rga_curve(leak, theta, x, low, high)

    rise = [(curve(x + step) - curve(x - step)) / (2 * step) for x in means]
    found = RGA(low=low, high=high).slope(neuron, torch.tensor(means, dtype=torch.float64))
    assert found.tolist() == pytest.approx(rise, abs=1e-8)


@pytest.mark.parametrize("tau", [1.25, 2.0, 4.0])
@pytest.mark.parametrize("theta", [0.5, 1.0])
def test_rga_of_a_decayed_input_is_that_of_the_scaled_current(tau: float, theta: float) -> None:
    """phi'(I) = kappa phi'_gain1(kappa I), kappa = 1/tau: the knee is at theta, where it begins to fire."""
    decayed, gain_1 = (LIF(tau=tau, decay_input=flag, v_threshold=theta) for flag in (True, False))
    mean = torch.linspace(-1, 9, 400, dtype=torch.float64)
    expected = RGA().slope(gain_1, mean / tau) / tau
    torch.testing.assert_close(RGA().slope(decayed, mean), expected, rtol=1e-12, atol=0)
    around = RGA().slope(decayed, torch.tensor([0.999 * theta, 1.001 * theta], dtype=torch.float64))
    assert around[0].item() == pytest.approx(0.2 / tau)
    assert around[1] > 2 * around[0]


def first_firing(neuron: Any) -> float:
    """The smallest constant current under which the neuron fires within 400 steps, by bisection."""
    low, high = 0.0, 5.0
    for _ in range(30):
        middle = (low + high) / 2
        fires = exact(neuron, torch.full((400, 1), middle, dtype=torch.float64), "site").any()
        low, high = (low, middle) if fires else (middle, high)
    return high


@pytest.mark.parametrize(
    "neuron",
    [
        LIF(),
        LIF(tau=4.0),
        LIF(tau=1.6, decay_input=False, v_threshold=0.7),
        LIF(v_reset=-0.3),
        LIF(decay_input=False, v_reset=0.2),
        LIF(v_reset=None),
    ],
    ids=repr,
)
def test_rga_has_its_knee_where_the_neuron_begins_to_fire(neuron: Any) -> None:
    knee = first_firing(neuron)
    below, above = RGA().slope(neuron, torch.tensor([knee - 1e-4, knee + 1e-4], dtype=torch.float64)).tolist()
    assert below == pytest.approx(0.2 * neuron.gains()[1])
    assert above > 1.5 * below


def test_the_rate_that_rga_approximates() -> None:
    """lambda 0.5, theta 1: silent at 0.5, every second step at 0.75, every step from 1 on."""
    neuron = LIF(decay_input=False)
    for current, period in ((0.5, 0), (0.75, 2), (1.0, 1), (1.7, 1)):
        assert estimators.period(0.5, 1.0, current, longest=40) == period
        spikes = exact(neuron, torch.full((40, 1), current, dtype=torch.float64), "site")[:, 0]
        expected = [1.0 if period and step % period == 0 else 0.0 for step in range(1, 41)]
        assert spikes.tolist() == expected


@each_neuron
def test_rga_is_its_twin(name: str) -> None:
    neuron, physics = NEURONS[name]
    x = inputs(scale=2.0)
    expected = twin(estimators.rga, physics, x, weights())
    assert (expected == 0).any()
    agree(gradient(RGA(), neuron, x, weights()), expected)


def test_rga_reads_the_leak_that_plif_learns() -> None:
    x = inputs(scale=2.0)
    for decay_input in (True, False):
        learned = PLIF(init_tau=2.0, decay_input=decay_input).double()
        fixed = gradient(RGA(), LIF(decay_input=decay_input), x, weights())
        torch.testing.assert_close(gradient(RGA(), learned, x, weights()), fixed, rtol=1e-9, atol=1e-12)


class Strange:
    """A neuron that is no charge-and-fire scan."""

    def run(self, x: Tensor, fire: Any, *, through_time: bool = True, through_reset: bool = False) -> Tensor:
        return torch.stack([fire(current, t) for t, current in enumerate(x)])


def test_rga_refuses_a_neuron_without_a_known_charge() -> None:
    with pytest.raises(UsageError, match=r"linear charge for RGA.*layer7"):
        RGA()(Strange(), inputs(), "layer7")


@pytest.mark.parametrize("options", [{"low": 1.0}, {"low": -0.1}, {"high": 1.0}, {"high": math.nan}])
def test_rga_refuses_wrong_options(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="low in"):
        RGA(**options)


@each_neuron
@pytest.mark.parametrize("width", [0.1, 1.0, 2.45])
def test_hart_is_its_twin(name: str, width: float) -> None:
    neuron, physics = NEURONS[name]
    expected = twin(estimators.hart, physics, inputs(), weights(), width)
    agree(gradient(HART(width), neuron, inputs(), weights()), expected)


@each_neuron
def test_hart_has_one_gradient_for_all_steps(name: str) -> None:
    found = gradient(HART(), NEURONS[name][0], inputs(), weights())
    assert torch.equal(found, found[:1].expand_as(found))


@each_neuron
@pytest.mark.parametrize("width", [0.3, 1.0, 2.0])
def test_hart_of_one_step_is_the_triangle(name: str, width: float) -> None:
    neuron, _ = NEURONS[name]
    x, upstream = inputs()[:1], weights()[:1]
    agree(gradient(HART(width), neuron, x, upstream), gradient(Triangle(alpha=1 / width), neuron, x, upstream))


def test_hart_does_not_ask_for_the_leak_once_the_membrane_is_known() -> None:
    """Currents made so that neurons of different leak have the same membranes: the same gradient."""
    wanted = inputs()
    found = []
    for leak in (0.5, 0.9, 1.0):
        before = torch.cat([torch.zeros_like(wanted[:1]), wanted[:-1] * (wanted[:-1] < 1)])
        neuron: Any = LIF(tau=1 / (1 - leak), decay_input=False) if leak < 1 else IF()
        found.append(gradient(HART(), neuron, wanted - leak * before, weights()))
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found[2], found[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("width", [0.0, -1.0, math.nan])
def test_hart_refuses_a_width_that_is_not_positive(width: float) -> None:
    with pytest.raises(UsageError, match="width"):
        HART(width)


def widths_of_maps(centre: Tensor, spread: float) -> Tensor:
    """Gradient (N,) of a cell at height `centre` (N,) whose map has the unbiased deviation `spread`."""
    shift = torch.tensor([0.0, spread, -spread], dtype=torch.float64)
    maps = (1.0 + centre[:, None] + shift)[None, :, None, None, :]
    return gradient(PDSG(), IF(), maps, torch.ones_like(maps))[0, :, 0, 0, 0]


@pytest.mark.parametrize("sigma", [0.2, 1.0, 3.0])
def test_pdsg_at_the_threshold_and_at_its_peak(sigma: float) -> None:
    found = widths_of_maps(torch.tensor([0.0, sigma / 2, sigma], dtype=torch.float64), sigma) * sigma
    assert found.tolist() == pytest.approx([0.352065, 0.398942, 0.352065], abs=1e-6)


@pytest.mark.parametrize("sigma", [0.2, 1.0, 3.0])
def test_pdsg_has_unit_mass_and_its_closed_form(sigma: float) -> None:
    x = torch.arange(-9, 10, 0.02, dtype=torch.float64) * sigma
    found = widths_of_maps(x, sigma)
    assert found.sum().item() * 0.02 * sigma == pytest.approx(1.0, abs=1e-9)
    assert found.tolist() == pytest.approx([estimators.pdsg_derivative(v, sigma) for v in x.tolist()], rel=1e-6)


def pdsg_twin(physics: Physics, x: Tensor, upstream: Tensor, through_reset: bool) -> Tensor:
    """Currents (T,C,cells) of one image -> gradients of the same shape."""
    out = np.zeros(x.shape)
    for channel in range(x.shape[1]):
        cells: Sequence[Any] = [x[:, channel, j].tolist() for j in range(x.shape[2])]
        charged = np.array([forward(physics, cell).charged for cell in cells]).T
        sigma = estimators.pdsg_sigma(charged)
        for j, cell in enumerate(cells):
            slopes = [
                estimators.pdsg_derivative(u - physics.v_threshold, s)
                for u, s in zip(charged[:, j].tolist(), sigma.tolist(), strict=True)
            ]
            passed = upstream[:, channel, j].tolist()
            out[:, channel, j] = estimators.time_recursion(physics, cell, passed, slopes, through_reset=through_reset)
    return torch.from_numpy(out)


MAPS = {"vector": (5,), "map": (3, 2, 4), "volume": (2, 2, 1, 3)}
"""Shapes (C,*) of one image and step; a vector's neurons are channels of one cell."""


def draw(seed: int, shape: tuple[int, ...], images: int = 4) -> Tensor:
    """(T, images, *shape)."""
    return normal(image_keys(seed, torch.arange(images)), (T, *shape)).double().transpose(0, 1)


@each_neuron
@pytest.mark.parametrize("shape", MAPS.values(), ids=MAPS)
@pytest.mark.parametrize("through_reset", [False, True])
def test_pdsg_is_its_twin(name: str, shape: tuple[int, ...], through_reset: bool) -> None:
    """The width grows step by step with the membranes seen, each image and channel its own."""
    neuron, physics = NEURONS[name]
    x, upstream = 0.5 + 1.2 * draw(21, shape), draw(22, shape)
    found = gradient(PDSG(through_reset=through_reset), neuron, x, upstream)
    for image in range(x.shape[1]):
        one = (T, shape[0], math.prod(shape[1:]))
        expected = pdsg_twin(physics, x[:, image].reshape(one), upstream[:, image].reshape(one), through_reset)
        agree(found[:, image].reshape(one), expected)


@pytest.mark.parametrize("shape", MAPS.values(), ids=MAPS)
def test_pdsg_does_not_look_at_the_neighbours(shape: tuple[int, ...]) -> None:
    x, upstream = 0.5 + draw(23, shape), draw(24, shape)
    whole = gradient(PDSG(), LIF(), x, upstream)
    other = x.clone()
    other[:, 1:] *= 7
    assert torch.equal(gradient(PDSG(), LIF(), other, upstream)[:, 0], whole[:, 0])
    assert torch.equal(gradient(PDSG(), LIF(), x[:, :1], upstream[:, :1])[:, 0], whole[:, 0])
    assert not torch.equal(gradient(PDSG(), LIF(), other, upstream)[:, 1], whole[:, 1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_pdsg_of_a_single_value_has_width_1(dtype: torch.dtype, steps: int) -> None:
    """One image, fully connected: the first step's deviation does not exist. Nor has a membrane that stays any."""
    x = torch.full((steps, 1, 3), 1.25, dtype=dtype)  # IF fires at every step, so that its membrane stays at 1.25
    found = gradient(PDSG(), IF(), x, torch.ones_like(x))
    expected = torch.full_like(x, estimators.pdsg_derivative(0.25, 1.0))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_pdsg_of_a_flat_map_has_width_1() -> None:
    """Equal values that no binary fraction holds: what rounding leaves of their deviation is no spread."""
    x = torch.full((1, 1, 1, 7, 7), 1.1, dtype=torch.float64)
    found = gradient(PDSG(), IF(), x, torch.ones_like(x))
    torch.testing.assert_close(found, torch.full_like(x, estimators.pdsg_derivative(0.1, 1.0)), rtol=1e-6, atol=0)
