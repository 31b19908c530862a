"""ASSG against its twin, the published table, and what its memory must not do."""

from __future__ import annotations

import copy
import dataclasses
import importlib
from typing import Any

import pytest
import torch
from oracles import estimators
from oracles.neurons import Physics, forward
from oracles.surrogates import SURROGATES
from small import digits, trained
from torch import Tensor

from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.estimators.assg import ASSG
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.losses import cross_entropy
from spikeproof.neurons.if_ import IF
from spikeproof.neurons.lif import LIF
from spikeproof.rules.atan import ATan
from spikeproof.rules.bptr import BPTR
from spikeproof.tensors import exact, image_keys, normal, uniform
from spikeproof.types import Rule, Score
from spikeproof.victims.scene import Scene

CLASSES = {"atan": "ATan", "sigmoid": "Sigmoid", "triangle": "Triangle", "rectangle": "Rectangle",
           "gaussian": "Gaussian"}  # fmt: skip
RULES = {name: getattr(importlib.import_module(f"spikeproof.rules.{name}"), cls) for name, cls in CLASSES.items()}
OMEGA = {"triangle": 0.612702, "rectangle": 0.85, "sigmoid": 2.512306, "gaussian": 1.439531, "atan": 2.651712}
TABLE = {
    0.2: {1: 2.579236, 2: 2.543609, 10: 2.954696, 20: 4.500948, 50: 11.276891, 100: 13.229457},
    1.0: {1: 2.651447, 2: 2.651447, 10: 2.651447, 20: 2.651447, 50: 2.651447, 100: 2.651447},
    3.0: {1: 1.803763, 2: 1.420991, 10: 0.791845, 20: 0.760586, 50: 0.864567, 100: 0.883656},
}
"""Distance from the threshold -> iteration -> sharpness of ATan at mass 0.85."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe(ATan):
    """A surrogate with slope alpha everywhere: the gradient of a lone spike *is* the sharpness."""

    def primitive(self, x: Tensor) -> Tensor:
        return self.alpha * x


class OneNeuron:
    """x (B,T) are the currents of one neuron over time; the loss is a weighted sum of its spikes."""

    def __init__(self, neuron: Any = None, weights: Tensor | None = None) -> None:
        self.neuron = IF() if neuron is None else neuron
        self.weights = torch.ones(1, dtype=torch.float64) if weights is None else weights

    def __call__(self, x: Tensor, rule: Rule, salt: int) -> Score:
        loss = (rule(self.neuron, x.t(), "only").t() * self.weights).sum(1)
        return Score(loss, loss.detach() > 1e9)


def sharpness(points: list[Tensor], **options: Any) -> list[Tensor]:
    """alpha (B,T) at each of the points (B,T), one after the other in one run."""
    estimator = ASSG(rule=Probe(through_time=False), **options)
    f, carry, found = OneNeuron(weights=torch.ones(points[0].shape[1]).double()), estimator.init(points[0]), []
    for salt, x in enumerate(points):
        _, alpha, carry = estimator(f, x, carry, salt)
        found.append(alpha)
    return found


@pytest.mark.parametrize(
    ("half", "omega"),
    [
        (0.35, 1.249437),
        (0.40, 1.959314),
        (0.41, 2.191260),
        (0.425, 2.651712),
        (0.435, 3.074121),
        (0.45, 4.019459),
        (0.49, 20.257570),
    ],
)
def test_radius_of_atan(half: float, omega: float) -> None:
    assert ATan().mass_radius(2 * half) == pytest.approx(omega, abs=1e-6)


@pytest.mark.parametrize("name", RULES)
def test_radius_holds_the_mass(name: str) -> None:
    assert RULES[name]().mass_radius(0.85) == pytest.approx(OMEGA[name], abs=1e-6)
    for mass in (0.05, 0.5, 0.7, 0.98):
        expected = estimators.mass_radius(name, mass)
        for alpha in (0.5, 1.0, 4.0):
            assert RULES[name](alpha=alpha).mass_radius(mass) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("distance", TABLE)
def test_sharpness_at_a_constant_distance(distance: float, side: int) -> None:
    """Below and above the threshold alike."""
    x = torch.tensor([[1.0 + side * distance]], dtype=torch.float64)
    found = sharpness([x] * 100)
    for k, alpha in TABLE[distance].items():
        assert found[k - 1].item() == pytest.approx(alpha, abs=2e-6)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("distance", [0.2, 1.0, 3.0])
def test_the_gradient_is_the_surrogate_of_that_sharpness(name: str, distance: float) -> None:
    estimator = ASSG(rule=RULES[name](alpha=17.0))  # its own alpha is not used
    x = torch.tensor([[1.0 - distance]], dtype=torch.float64)
    alphas = estimators.assg_sharpness([distance] * 30, estimators.mass_radius(name, 0.85))
    carry = estimator.init(x)
    for salt, alpha in enumerate(alphas):
        _, gradient, carry = estimator(OneNeuron(), x, carry, salt)
        assert gradient.item() == pytest.approx(SURROGATES[name].derivative(distance, alpha), rel=1e-6)


@pytest.mark.parametrize("options", [{}, {"decay": 0.5, "relax": 0.3, "mass": 0.6}, {"decay": 0.0, "relax": 0.0}])
def test_each_neuron_image_and_step_has_its_own_memory(options: dict[str, float]) -> None:
    """Inputs that move from iteration to iteration; IF with no spike before the last step, so that u is the sum."""
    batch, steps, rounds = 3, 4, 25
    points = [0.25 * uniform(image_keys(k, torch.arange(batch)), (steps,)).double() for k in range(rounds)]
    found = sharpness(points, **options)
    omega = estimators.mass_radius("atan", options.get("mass", 0.85))
    rest = {k: v for k, v in options.items() if k != "mass"}
    for image in range(batch):
        for t in range(steps):
            distances = [abs(x[image, : t + 1].sum().item() - 1) for x in points]
            expected = estimators.assg_sharpness(distances, omega, **rest)
            assert [alpha[image, t].item() for alpha in found] == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("through_time", [True, False])
@pytest.mark.parametrize("through_reset", [True, False])
@pytest.mark.parametrize("soft", [True, False])
def test_the_whole_recursion_in_time(through_time: bool, through_reset: bool, soft: bool) -> None:
    """Sharpness from the memory of each step, then backpropagation through time with the options of the rule."""
    batch, steps, rounds = 5, 6, 8
    v_reset = None if soft else 0.0
    physics = Physics(tau=2.0, v_reset=v_reset)
    weights = normal(image_keys(7, torch.arange(1)), (steps,))[0].double()
    f = OneNeuron(LIF(v_reset=v_reset), weights)
    estimator = ASSG(rule=ATan(through_time=through_time, through_reset=through_reset))
    points = [0.8 + 1.5 * normal(image_keys(k, torch.arange(batch)), (steps,)).double() for k in range(rounds)]
    carry, found = estimator.init(points[0]), []
    for salt, x in enumerate(points):
        _, gradient, carry = estimator(f, x, carry, salt)
        found.append(gradient)
    omega = estimators.mass_radius("atan", 0.85)
    for image in range(batch):
        heights = [[u - 1 for u in forward(physics, x[image].tolist()).charged] for x in points]
        alphas = [estimators.assg_sharpness([abs(h[t]) for h in heights], omega) for t in range(steps)]
        for k, x in enumerate(points):
            slopes = [SURROGATES["atan"].derivative(heights[k][t], alphas[t][k]) for t in range(steps)]
            expected = estimators.time_recursion(
                physics, x[image].tolist(), weights.tolist(), slopes, through_time=through_time,
                through_reset=through_reset,
            )  # fmt: skip
            assert found[k][image].tolist() == pytest.approx(expected, rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("mass", [0.7, 0.85, 0.95])
def test_no_more_than_the_mass_vanishes_on_average(mass: float) -> None:
    """Distances that go on varying: the share of the area within them, after 60 rounds and over all neurons."""
    ids = torch.arange(300)
    points = [3 * uniform(image_keys(k, ids), (1,)).double() - 1 for k in range(80)]
    found = sharpness(points, mass=mass)
    within = [
        2 * SURROGATES["atan"].primitive(abs(x - 1), alpha) - 1
        for point, sharp in zip(points[60:], found[60:], strict=True)
        for x, alpha in zip(point[:, 0].tolist(), sharp[:, 0].tolist(), strict=True)
    ]
    assert mass - 0.3 < sum(within) / len(within) <= mass


def scene(count: int = 4, *, steps: int = 3) -> tuple[Scene, Any]:
    x, y, ids = digits(count)
    found = Scene(trained(steps=steps), x, y, image_keys(0, ids), "pixels")
    return found, found.objective(cross_entropy)


def after(estimator: ASSG, f: Any, x: Tensor, calls: int) -> Any:
    carry = estimator.init(x)
    for salt in range(calls):
        _, _, carry = estimator(f, x, carry, salt)
    return carry


def test_the_spikes_stay_exact() -> None:
    """Loss and outcome are those of the plain forward, bit for bit, however sharp the surrogate has become."""
    one, f = scene()
    estimator = ASSG()
    score, gradient, _ = estimator(f, one.start, after(estimator, f, one.start, 5), 5)
    with torch.no_grad():
        plain = f(one.start, exact, 5)
    assert torch.equal(score.loss, plain.loss)
    assert torch.equal(score.fooled, plain.fooled)
    assert gradient.abs().max() > 0


def test_a_carry_is_read_and_never_written() -> None:
    """The same carry twice gives the same gradient, and a run that branches off leaves it alone."""
    one, f = scene()
    estimator = ASSG()
    carry = after(estimator, f, one.start, 3)
    before = copy.deepcopy(carry)
    _, first, new = estimator(f, one.start, carry, 3)
    estimator(f, 1 - one.start, carry, 3)
    _, again, _ = estimator(f, one.start, carry, 3)
    assert torch.equal(first, again)
    assert carry.keys() == before.keys()
    assert carry
    assert all(torch.equal(a, b) for site in carry for a, b in zip(carry[site], before[site], strict=True))
    _, later, _ = estimator(f, one.start, new, 4)
    assert not torch.equal(later, first)


def test_forwards_without_a_gradient_do_not_touch_the_memory() -> None:
    """A look at other points between two steps, as line searches and logs take, changes nothing."""
    one, f = scene()
    estimator = ASSG()

    def run(look: bool) -> Tensor:
        carry, gradient = estimator.init(one.start), one.start
        for salt in range(4):
            _, gradient, carry = estimator(f, one.start, carry, salt)
            if look:
                with torch.no_grad():
                    f(1 - one.start, exact, salt)
                WhiteBox(ATan())(f, 1 - one.start, None, salt)
        return gradient

    assert torch.equal(run(True), run(False))


def test_two_runs_share_nothing() -> None:
    """Two interleaved attacks of one estimator go as they go alone."""
    one, f = scene()
    estimator = ASSG()
    alone = after(estimator, f, one.start, 3)
    carries = {flip: estimator.init(one.start) for flip in (False, True)}
    for salt in range(3):
        for flip in (True, False):
            _, _, carries[flip] = estimator(f, 1 - one.start if flip else one.start, carries[flip], salt)
    assert all(torch.equal(a, b) for site in alone for a, b in zip(carries[False][site], alone[site], strict=True))


@pytest.mark.parametrize("count", [1, 3, 5])
def test_another_batch_is_refused(count: int) -> None:
    """A smaller batch, a larger one, and a single image, which would broadcast."""
    one, f = scene(4)
    other, g = scene(count)
    carry = after(ASSG(), f, one.start, 1)
    with pytest.raises(SpikeproofError, match=r"batch that ASSG's memory belongs to at .*\(3, 4, .*\(3, \d, .*new"):
        ASSG()(g, other.start, carry, 1)


@pytest.mark.parametrize(
    "options",
    [{"mass": 0.0}, {"mass": 1.0}, {"decay": 1.0}, {"decay": -0.1}, {"relax": -1.0}],
    ids=str,
)
def test_wrong_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="mass in"):
        ASSG(**options)


def test_only_a_fixed_surrogate_can_be_scaled() -> None:
    with pytest.raises(UsageError, match="fixed surrogate"):
        ASSG(rule=BPTR())  # type: ignore[arg-type]
