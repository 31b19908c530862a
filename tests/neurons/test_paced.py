"""Neurons with a number for each step, against scalar recursions, and against known neurons where the number stands."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.neurons.dlif import DLIF
from spikeproof.neurons.if_ import IF
from spikeproof.neurons.lif import LIF
from spikeproof.neurons.step_leak import StepLeak
from spikeproof.rules.atan import ATan
from spikeproof.rules.rga import RGA
from spikeproof.tensors import exact, image_keys, normal

T, B = 6, 40
PACE = [1.0, 0.4, -0.2, 1.3, 0.0, 0.8]
X = (0.5 + 0.8 * normal(image_keys(0, torch.arange(B)), (T,))).T.double()


def paced(kind: type[Any], pace: list[float], **options: Any) -> Any:
    neuron = kind(steps=len(pace), **options).double()
    with torch.no_grad():
        neuron.pace.copy_(torch.tensor(pace))
    return neuron


def loop(
    kind: type[Any], currents: list[float], pace: list[float], rest: float, soft: bool
) -> tuple[list[int], list[float]]:
    """Spikes and membranes before the reset, by hand; leak 0.99 of DLIF."""
    v, spikes, membranes = rest, [], []
    for current, p in zip(currents, pace, strict=True):
        u = rest + (p * (v - rest) + current if kind is StepLeak else 0.99 * (v - rest) + p * current)
        spikes.append(int(u >= 1.0))
        membranes.append(u)
        v = (u - spikes[-1]) if soft else (rest if spikes[-1] else u)
    return spikes, membranes


@pytest.mark.parametrize("kind", [StepLeak, DLIF])
@pytest.mark.parametrize("reset", [0.0, -0.4, None])
def test_spikes_are_those_of_the_scalar_loop(kind: type[Any], reset: float | None) -> None:
    neuron = paced(kind, PACE, v_reset=reset)
    pace = neuron.pace.tolist()
    spikes = exact(neuron, X, "site")
    for image in range(B):
        expected, _ = loop(kind, X[:, image].tolist(), pace, reset or 0.0, reset is None)
        assert spikes[:, image].tolist() == expected
    assert 0.05 < spikes.mean() < 0.95


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (paced(StepLeak, [1.0] * T), IF()),
        (paced(StepLeak, [0.75] * T, v_reset=-0.5), LIF(tau=4.0, decay_input=False, v_reset=-0.5)),
        (paced(DLIF, [1.0] * T, leak=0.5), LIF(tau=2.0, decay_input=False)),
        (paced(DLIF, [0.5] * T, leak=0.5, v_reset=None), LIF(tau=2.0, v_reset=None)),
    ],
)
@pytest.mark.parametrize("through_reset", [False, True])
def test_where_the_numbers_stand_it_is_a_known_neuron(one: Any, other: Any, through_reset: bool) -> None:
    """Spikes and gradients; the known neuron takes the fused backward."""
    weights = normal(image_keys(1, torch.arange(B)), (T,)).T.double()
    found = []
    for neuron in (one, other):
        x = X.clone().requires_grad_()
        spikes = ATan(through_reset=through_reset)(neuron, x, "site")
        found.append((spikes, torch.autograd.grad((spikes * weights).sum(), x)[0]))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", [StepLeak, DLIF])
def test_the_gradient_of_the_pace_is_that_of_differences(kind: type[Any]) -> None:
    """Of the membranes, which are smooth in it between two flips of a spike."""

    def membranes(neuron: Any) -> Tensor:
        seen: list[Tensor] = []

        def fire(height: Tensor, step: int) -> Tensor:
            seen.append(height)
            return (height >= 0).to(height.dtype).detach()

        neuron.run(X, fire)
        return torch.stack(seen).square().sum()

    neuron, step = paced(kind, PACE), 1e-7
    (gradient,) = torch.autograd.grad(membranes(neuron), neuron.pace)
    for t in range(T):
        values = []
        for sign in (1, -1):
            pace = neuron.pace.tolist()
            pace[t] += sign * step
            other = kind(steps=T).double()
            with torch.no_grad():
                other.pace.copy_(torch.tensor(pace, dtype=torch.float64))
                values.append(float(membranes(other)))
        assert float(gradient[t]) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("kind", [StepLeak, DLIF])
def test_a_frozen_neuron_keeps_its_paces_in_the_gradient(kind: type[Any]) -> None:
    """Attackers see weights without gradient; the fused backward, of one gain for all steps, must not be taken."""
    neuron, x = paced(kind, PACE), X.clone().requires_grad_()
    (learning,) = torch.autograd.grad(ATan()(neuron, x, "site").sum(), x)
    neuron.requires_grad_(False)
    (frozen,) = torch.autograd.grad(ATan()(neuron, x, "site").sum(), x)
    assert torch.equal(learning, frozen)


@pytest.mark.parametrize("kind", [StepLeak, DLIF])
def test_a_longer_run_than_it_was_built_for_is_refused(kind: type[Any]) -> None:
    assert exact(kind(steps=9), X, "site").shape == X.shape
    with pytest.raises(SpikeproofError, match=r"at most 3 steps.*got 6.*neuron\.steps"):
        exact(kind(steps=3), X, "site")


def test_rules_of_rates_know_it() -> None:
    x = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(RGA()(StepLeak(steps=T), x, "site").sum(), x)
    assert gradient.abs().max() > 0


@pytest.mark.parametrize(
    ("kind", "options"), [(StepLeak, {"steps": 0}), (DLIF, {"steps": 0}), (DLIF, {"leak": 0.0}), (DLIF, {"leak": 1.1})]
)
def test_wrong_options_are_refused(kind: type[Any], options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        kind(**options)


@pytest.mark.parametrize("reset", [0.0, -0.4, None])
def test_even_is_a_dlif_whose_weights_are_one_and_not_learned(reset: float | None) -> None:
    neuron = paced(DLIF, PACE, leak=0.7, v_reset=reset)
    even = neuron.even()
    assert torch.equal(exact(even, X, "site"), exact(paced(DLIF, [1.0] * T, leak=0.7, v_reset=reset), X, "site"))
    assert not torch.equal(exact(even, X, "site"), exact(neuron, X, "site"))
    assert not even.pace.requires_grad
    assert neuron.pace.requires_grad
    assert neuron.pace.tolist() == pytest.approx(PACE)
