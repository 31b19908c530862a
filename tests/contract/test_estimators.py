"""Every estimator: on a linear objective it returns the gradient itself, and it refuses what is no gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from small import digits, trained, untouched
from torch import Tensor

from spikeproof import parts
from spikeproof.errors import SpikeproofError
from spikeproof.losses import cross_entropy
from spikeproof.neurons.if_ import IF
from spikeproof.rules.atan import ATan
from spikeproof.tensors import image_keys, normal, uniform
from spikeproof.types import Objective, Rule, Score
from spikeproof.victims.scene import Scene

KEYS = image_keys(3, torch.arange(4))
X = uniform(KEYS, (3, 5, 5)).double()
SLOPE = normal(KEYS, (3, 5, 5)).double()


OPTIONS: dict[str, list[dict[str, Any]]] = {
    "white_box": [{}, {"fill_zeros": True}],
    "eot": [{}, {"draws": 3, "radius": 0.05}],
}
"""Options worth an examination of their own; every other estimator is examined with its defaults."""

MIXED = {"mdse"}
"""Has the signs of the slope, and a scale of its own."""

SAMPLED = {"spsa"}
"""Points up on average, and asks for no graph."""

SPECS = [{"name": name, **options} for name in parts.names("estimators") for options in OPTIONS.get(name, [{}])]
each_estimator = pytest.mark.parametrize("spec", SPECS, ids=str)
each_backward = pytest.mark.parametrize("spec", [s for s in SPECS if s["name"] not in SAMPLED], ids=str)


def estimator(spec: dict[str, Any]) -> Any:
    return parts.build("estimators", spec, rule=ATan())


class Linear:
    """An own slope for each image; broken where the value is positive. `bend(x)` stands for x."""

    final, classes = False, 4

    def __init__(self, bend: Callable[[Tensor], Tensor] = lambda x: x, index: Any = slice(None)) -> None:
        self.bend, self.keys, self.slope = bend, KEYS[index], SLOPE[index]
        self.salts: list[int] = []

    def __call__(self, x: Tensor, rule: Rule, salt: int) -> Score:
        self.salts.append(salt)
        loss = (self.bend(x) * self.slope).flatten(1).sum(1)
        return Score(loss, loss.detach() > 0)

    def of(self, index: Tensor) -> Objective:
        raise NotImplementedError

    def aimed(self, rank: int) -> Objective:
        raise NotImplementedError

    difference = aimed

    def encode(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def encoded(self) -> Objective:
        raise NotImplementedError


linear = Linear()


@each_estimator
@pytest.mark.parametrize("grad_mode", [False, True])
def test_a_linear_objective_has_its_slope_as_gradient(spec: dict[str, Any], grad_mode: bool) -> None:
    part, x = estimator(spec), X.clone()
    carry = part.init(x)
    with torch.set_grad_enabled(grad_mode):
        for salt in range(3):
            score, gradient, carry = part(linear, x, carry, salt)
            if spec["name"] in SAMPLED:
                assert ((gradient * SLOPE).flatten(1).sum(1) > 0).all()
            elif spec["name"] in MIXED:
                assert torch.equal(gradient.sign(), SLOPE.sign())
            else:
                assert torch.equal(gradient, SLOPE)
            if "radius" not in spec:
                assert torch.equal(score.loss, linear(X, ATan(), 0).loss)
            assert torch.equal(score.fooled, linear(X, ATan(), 0).fooled)
            assert not gradient.requires_grad
            assert not score.loss.requires_grad
    assert torch.equal(x, X)
    assert not x.requires_grad


@each_estimator
def test_a_run_starts_from_its_own_memory(spec: dict[str, Any]) -> None:
    """What one run has learnt does not reach the next."""
    part, victim = estimator(spec), trained()
    x, y, ids = digits(4)
    scene = Scene(victim, x, y, image_keys(0, ids), "pixels")
    f = scene.objective(cross_entropy)

    def run(start: Tensor) -> Tensor:
        carry = part.init(start)
        for salt in range(2):  # the first learns, and the second goes by what it has learnt
            _, gradient, carry = part(f, start, carry, salt)
        return gradient

    first = run(scene.start)
    run(1 - scene.start)
    assert first.abs().max() > 0
    assert torch.equal(run(scene.start), first)


@each_estimator
def test_the_victim_is_left_alone(spec: dict[str, Any]) -> None:
    part, victim = estimator(spec), trained()
    x, y, ids = digits(4)
    scene = Scene(victim, x, y, image_keys(0, ids), "pixels")
    with untouched(victim):
        part(scene.objective(cross_entropy), scene.start, part.init(scene.start), 0)


@each_estimator
def test_the_salt_reaches_the_objective(spec: dict[str, Any]) -> None:
    part, first, second = estimator(spec), Linear(), Linear()
    part(first, X, part.init(X), 5)
    part(second, X, part.init(X), 6)
    assert first.salts
    assert set(first.salts).isdisjoint(second.salts)


@each_estimator
def test_a_zero_gradient_passes(spec: dict[str, Any]) -> None:
    part = estimator(spec)
    _, gradient, _ = part(Linear(lambda x: 0 * x), X, part.init(X), 0)
    if spec.get("fill_zeros"):
        assert (gradient != 0).all()
        assert gradient.abs().max() < 1e-20
    else:
        assert torch.equal(gradient, torch.zeros_like(X))


@each_estimator
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_refused(spec: dict[str, Any], value: float) -> None:
    part = estimator(spec)
    poison = torch.ones_like(X)
    poison[2, 1, 3, 3] = value
    with pytest.raises(SpikeproofError, match=r"finite gradients.*NaN or infinity"):
        part(Linear(lambda x: x * poison), X, part.init(X), 0)


@each_backward
def test_a_cut_graph_is_refused(spec: dict[str, Any]) -> None:
    """Also where the loss still has a graph, but not to the input."""
    part, weight = estimator(spec), torch.ones(4, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    for bend in (lambda x: x.detach() * weight, lambda x: x.detach()):
        with pytest.raises(SpikeproofError, match=r"depends on the attacked input.*cut graph"):
            part(Linear(bend), X, part.init(X), 0)


@each_estimator
def test_an_image_has_the_same_gradient_alone_and_in_any_order(spec: dict[str, Any]) -> None:
    """Over several steps, with a bent objective, so that a memory has something to remember."""

    def run(index: Any) -> Tensor:
        part, x = estimator(spec), X[index]
        f, carry, found = Linear(lambda x: x.square() - 0.7 * x, index), part.init(x), []
        for salt in range(4):
            _, gradient, carry = part(f, x, carry, salt)
            found.append(gradient)
            x = (x + 0.1 * gradient.sign()).clamp(0, 1)
        return torch.stack(found, 1)

    whole, order = run(slice(None)), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(run(order), whole[order], rtol=1e-12, atol=0)
    for i in range(4):
        torch.testing.assert_close(run(slice(i, i + 1)), whole[i : i + 1], rtol=1e-12, atol=0)


@each_estimator
def test_nothing_is_left_behind_by_an_exception(spec: dict[str, Any]) -> None:
    """Also not the mode of gradients: the network's second spiking layer fails."""

    class Stop(Exception):
        pass

    part, victim = estimator(spec), trained()
    x, y, ids = digits(4)
    f, calls = Scene(victim, x, y, image_keys(0, ids), "pixels").objective(cross_entropy), list[IF]()

    def failing(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def spied(self: IF, *args: Any, **options: Any) -> Tensor:
            if self not in calls:
                calls.append(self)
            if len(calls) == 2:
                raise Stop
            return forward(self, *args, **options)

        return spied

    with pytest.MonkeyPatch.context() as patch, untouched(victim):
        patch.setattr(IF, "run", failing(IF.run))
        patch.setattr(IF, "spikes", failing(IF.spikes))  # what is no gradient's is not asked for by `run`
        with pytest.raises(Stop):
            part(f, x, part.init(x), 0)
    assert len(calls) == 2
    assert not x.requires_grad
