"""Every estimator: on a linear objective it returns the gradient itself, and it refuses what is no gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small import digits, trained, untouched
from torch import Tensor

from spikeproof import parts
from spikeproof.losses import cross_entropy
from spikeproof.rules.atan import ATan
from spikeproof.scene import Cost, Scene
from spikeproof.tensors import image_keys, normal, uniform
from spikeproof.types import Rule, Score, SpikeproofError

each_estimator = pytest.mark.parametrize("name", parts.names("estimators"))
KEYS = image_keys(3, torch.arange(4))
X = uniform(KEYS, (3, 5, 5)).double()
SLOPE = normal(KEYS, (3, 5, 5)).double()


def estimator(name: str) -> Any:
    return parts.build("estimators", {"name": name}, rule=ATan())


def linear(x: Tensor, rule: Rule, salt: int) -> Score:
    """An own slope for each image; broken where the value is positive."""
    loss = (x * SLOPE).flatten(1).sum(1)
    return Score(loss, loss.detach() > 0)


@each_estimator
@pytest.mark.parametrize("grad_mode", [False, True])
def test_a_linear_objective_has_its_slope_as_gradient(name: str, grad_mode: bool) -> None:
    part, x = estimator(name), X.clone()
    carry = part.init(x)
    with torch.set_grad_enabled(grad_mode):
        for salt in range(3):
            score, gradient, carry = part(linear, x, carry, salt)
            assert torch.equal(gradient, SLOPE)
            assert torch.equal(score.loss, linear(X, ATan(), 0).loss)
            assert torch.equal(score.fooled, linear(X, ATan(), 0).fooled)
            assert not gradient.requires_grad
            assert not score.loss.requires_grad
    assert torch.equal(x, X)
    assert not x.requires_grad


@each_estimator
def test_a_run_starts_from_its_own_memory(name: str) -> None:
    """What one run has learnt does not reach the next."""
    part, victim = estimator(name), trained()
    x, y, ids = digits(4)
    scene = Scene(victim, x, y, image_keys(0, ids), "pixels")
    f = scene.objective(cross_entropy, Cost())

    def run(start: Tensor) -> Tensor:
        carry = part.init(start)
        for salt in range(3):
            _, gradient, carry = part(f, start, carry, salt)
        return gradient

    first = run(scene.start)
    run(1 - scene.start)
    assert first.abs().max() > 0
    assert torch.equal(run(scene.start), first)


@each_estimator
def test_the_victim_is_left_alone(name: str) -> None:
    part, victim = estimator(name), trained()
    x, y, ids = digits(4)
    scene = Scene(victim, x, y, image_keys(0, ids), "pixels")
    with untouched(victim):
        part(scene.objective(cross_entropy, Cost()), scene.start, part.init(scene.start), 0)


@each_estimator
def test_the_salt_reaches_the_objective(name: str) -> None:
    part, salts = estimator(name), []

    def f(x: Tensor, rule: Rule, salt: int) -> Score:
        salts.append(salt)
        return linear(x, rule, salt)

    part(f, X, part.init(X), 5)
    first = list(salts)
    salts.clear()
    part(f, X, part.init(X), 6)
    assert set(first).isdisjoint(salts)


@each_estimator
def test_a_zero_gradient_passes(name: str) -> None:
    part = estimator(name)
    _, gradient, _ = part(lambda x, rule, salt: linear(0 * x, rule, salt), X, part.init(X), 0)
    assert torch.equal(gradient, torch.zeros_like(X))


@each_estimator
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_refused(name: str, value: float) -> None:
    part = estimator(name)
    poison = torch.ones_like(X)
    poison[2, 1, 3, 3] = value
    with pytest.raises(SpikeproofError, match=r"finite gradients.*NaN or infinity"):
        part(lambda x, rule, salt: linear(x * poison, rule, salt), X, part.init(X), 0)


@each_estimator
def test_a_cut_graph_is_refused(name: str) -> None:
    """Also where the loss still has a graph, but not to the input."""
    part, weight = estimator(name), torch.ones(4, dtype=torch.float64, requires_grad=True)

    def half_cut(x: Tensor, rule: Rule, salt: int) -> Score:
        score = linear(x.detach(), rule, salt)
        return Score(score.loss * weight, score.fooled)

    for f in (half_cut, lambda x, rule, salt: linear(x.detach(), rule, salt)):
        with pytest.raises(SpikeproofError, match=r"depends on the attacked input.*cut graph"):
            part(f, X, part.init(X), 0)
