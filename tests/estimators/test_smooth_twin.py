"""The smooth twin: its gradient is that of its own loss, its score that of the deployed network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from objectives import Plain
from small import digits, trained
from torch import Tensor

from spikeproof import parts
from spikeproof.errors import UsageError
from spikeproof.estimators.smooth_twin import SmoothTwin
from spikeproof.losses import margin
from spikeproof.neurons.if_ import IF
from spikeproof.rules.atan import ATan
from spikeproof.rules.bptr import BPTR
from spikeproof.rules.sigmoid import Sigmoid
from spikeproof.tensors import exact, image_keys, normal, uniform
from spikeproof.types import Objective, Rule
from spikeproof.victims.scene import COMMON_DRAWS, Cost, Scene

X, Y, IDS = digits(6)
KEYS = image_keys(0, IDS)


def objective(cost: Cost | None = None, double: bool = True, **options: Any) -> tuple[Objective, Tensor]:
    """On digits with room for a difference on both sides, and no two pixels alike: equal ones tie in a max pool."""
    victim, x = trained(**options), 0.1 + 0.7 * X + 0.1 * uniform(KEYS, (1, 8, 8))
    if double:
        victim, x = victim.double(), x.double()
    return Scene(victim, x, Y, KEYS, "pixels").objective(margin, cost), x


@pytest.mark.parametrize("neuron", ["if", "lif", "plif"])
@pytest.mark.parametrize("shape", ["atan", "sigmoid", "gaussian"])
def test_the_gradient_is_that_of_the_twins_own_loss(neuron: str, shape: str) -> None:
    """Against central differences along random directions, in float64."""
    f, x = objective(neuron=neuron)
    # Neither option of the rule may cut anything: the twin is differentiated whole.
    part = SmoothTwin(parts.build("rules", {"name": shape, "through_time": False}), alpha=3.0)
    _, gradient, _ = part(f, x, part.init(x), 0)
    h = 1e-6
    for k in range(6):
        r = normal(image_keys(k, IDS), x.shape[1:]).double()
        with torch.no_grad():
            rise = f(x + h * r, part._twin(), 0).loss - f(x - h * r, part._twin(), 0).loss
        torch.testing.assert_close(rise / (2 * h), (gradient * r).flatten(1).sum(1), rtol=1e-5, atol=1e-6)


def test_two_steps_of_one_neuron_by_hand() -> None:
    """u1 = i1, s1 = P(u1 - 1), u2 = (1 - s1) u1 + i2, s2 = P(u2 - 1); the loss is s1 + 2 s2."""
    shape = Sigmoid(alpha=2.5)
    currents = torch.tensor([[0.9, 0.8], [1.3, 0.2], [-0.4, 1.7]], dtype=torch.float64)

    def loss(x: Tensor, salt: int, rule: Rule) -> Tensor:
        return rule(IF(), x.t(), "only").t() @ torch.tensor([1.0, 2.0], dtype=torch.float64)

    f = Plain(loss, KEYS[:3], by_rule=True)
    score, gradient, _ = SmoothTwin(Sigmoid(), alpha=2.5)(f, currents, None, 0)
    u1, i2 = currents.t()
    s1, h1 = shape.primitive(u1 - 1), shape.derivative(u1 - 1)
    h2 = shape.derivative((1 - s1) * u1 + i2 - 1)
    expected = torch.stack([h1 + 2 * h2 * (1 - s1 - u1 * h1), 2 * h2], 1)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=0)
    assert score.loss.tolist() == [2.0, 1.0, 2.0]  # of the spikes: (0,1), (1,0), (0,1)


@pytest.mark.parametrize("encoder", ["direct", "phase", "poisson"])
def test_the_score_is_that_of_the_deployed_network(encoder: str) -> None:
    cost = Cost(len(Y))
    f, x = objective(cost, double=False, encoder=encoder)
    score, gradient, _ = SmoothTwin(ATan())(f, x, None, 5)
    asked = COMMON_DRAWS if encoder == "poisson" else 1
    assert cost.rows() == len(Y) * [{"forwards": asked + 1, "backwards": 1}]
    deployed = f(x, exact, 5)
    assert torch.equal(score.loss, deployed.loss)
    assert torch.equal(score.fooled, deployed.fooled)
    assert gradient.abs().max() > 0
    with torch.no_grad():
        assert not torch.allclose(f(x, SmoothTwin(ATan())._twin(), 5).loss, deployed.loss)


def test_a_sharp_twin_answers_as_the_network() -> None:
    f, x = objective()
    with torch.no_grad():
        twin, deployed = f(x, SmoothTwin(Sigmoid(), alpha=1e7)._twin(), 0), f(x, exact, 0)
    torch.testing.assert_close(twin.loss, deployed.loss, rtol=1e-4, atol=1e-4)
    assert torch.equal(twin.fooled, deployed.fooled)


def test_the_sharpness_is_its_own() -> None:
    f, x = objective(double=False)
    one = SmoothTwin(ATan(alpha=9.0), alpha=3.0)(f, x, None, 0)[1]
    assert torch.equal(SmoothTwin(ATan(alpha=1.0), alpha=3.0)(f, x, None, 0)[1], one)
    assert not torch.equal(SmoothTwin(ATan(alpha=1.0), alpha=2.0)(f, x, None, 0)[1], one)


def test_what_is_no_fixed_surrogate_is_refused() -> None:
    with pytest.raises(UsageError, match="fixed surrogate for the smooth twin"):
        SmoothTwin(BPTR())  # type: ignore[arg-type]
    for alpha in (0.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="alpha > 0"):
            SmoothTwin(ATan(), alpha=alpha)
