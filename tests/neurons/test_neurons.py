"""Neurons against the scalar loop: spikes and membranes bit for bit, gradients against the chain rule by hand."""

from __future__ import annotations

import importlib
import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import neurons as twin
from oracles.surrogates import SURROGATES
from torch import Tensor

from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.neurons.if_ import IF
from spikeproof.neurons.lif import LIF
from spikeproof.neurons.plif import PLIF
from spikeproof.rules.atan import ATan

RESETS = [0.0, -0.5, 0.25, None]
KINDS = ["if", "lif", "lif-plain", "plif", "plif-plain"]
RULES = {
    name: getattr(importlib.import_module(f"spikeproof.rules.{name}"), cls)
    for name, cls in [
        ("atan", "ATan"),
        ("sigmoid", "Sigmoid"),
        ("triangle", "Triangle"),
        ("rectangle", "Rectangle"),
        ("gaussian", "Gaussian"),
    ]
}


def build(kind: str, tau: float, v_threshold: float, v_reset: float | None) -> tuple[Any, twin.Physics]:
    """The neuron in float64 and its physics."""
    options: dict[str, Any] = {"v_threshold": v_threshold, "v_reset": v_reset}
    if kind == "if":
        return IF(**options), twin.Physics(None, True, v_threshold, v_reset)
    decay = not kind.endswith("plain")
    if kind.startswith("lif"):
        return LIF(tau=tau, decay_input=decay, **options), twin.Physics(tau, decay, v_threshold, v_reset)
    neuron = PLIF(init_tau=tau, decay_input=decay, **options).double()
    return neuron, twin.Physics(twin.tau_of(neuron.w.item()), decay, v_threshold, v_reset)


def watch(neuron: Any, currents: Tensor) -> tuple[Tensor, Tensor]:
    """Spikes (T,B), and the heights above the threshold (T,B) at which the neuron asked whether to fire."""
    heights = []

    def fire(height: Tensor, step: int) -> Tensor:
        assert step == len(heights)
        heights.append(height)
        return (height >= 0).to(height.dtype)

    with torch.no_grad():
        spikes = neuron.run(currents, fire)
    return spikes, torch.stack(heights)


def exactly(physics: twin.Physics) -> twin.Physics:
    """The same physics in fractions; an exact tau of 2 for the PLIF neuron."""
    return twin.Physics(*(Fraction(v) if isinstance(v, float) else v for v in physics))


@pytest.mark.parametrize("v_reset", RESETS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_sequence_on_a_grid(kind: str, v_reset: float | None) -> None:
    """All 4-step sequences of six currents: dyadic, so float64 is exact and many membranes meet the threshold."""
    neuron, physics = build(kind, 2.0, 1.0, v_reset)
    sequences = list(itertools.product([-0.5, 0.25, 0.5, 1.0, 1.5, 2.0], repeat=4))
    spikes, heights = watch(neuron, torch.tensor(sequences, dtype=torch.float64).T)
    traces = [twin.forward(physics, sequence) for sequence in sequences]
    assert torch.equal(spikes.T, torch.tensor([trace.spikes for trace in traces], dtype=torch.float64))
    assert torch.equal(heights.T + 1.0, torch.tensor([trace.charged for trace in traces], dtype=torch.float64))
    ties = heights == 0
    assert ties.sum() >= 20
    assert spikes[ties].all()


@given(st.data())
def test_spikes_are_those_of_exact_arithmetic(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    # Only tau = 2 has an exact PLIF parameter, w = 0.
    tau = 2.0 if kind.startswith("plif") else data.draw(st.sampled_from([2.0, 4.0, 8.0]))
    neuron, physics = build(kind, tau, data.draw(st.sampled_from([0.5, 1.0])), data.draw(st.sampled_from(RESETS)))
    steps = data.draw(st.integers(1, 7))
    eighths = data.draw(st.lists(st.lists(st.integers(-16, 32), min_size=steps, max_size=steps), min_size=1))
    currents = torch.tensor(eighths, dtype=torch.float64).T / 8
    spikes, heights = watch(neuron, currents)
    for image, sequence in enumerate(eighths):
        trace = twin.forward(exactly(physics), [Fraction(value, 8) for value in sequence])
        assert spikes[:, image].tolist() == trace.spikes
        assert (heights[:, image] + neuron.v_threshold).tolist() == [float(u) for u in trace.charged]


@pytest.mark.parametrize("v_reset", RESETS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_leak_that_is_not_dyadic(kind: str, v_reset: float | None) -> None:
    neuron, physics = build(kind, 3.0, 0.7, v_reset)
    currents = np.random.default_rng(1).normal(1.0, 1.5, (6, 200))
    spikes, heights = watch(neuron, torch.from_numpy(currents))
    # Away from a tie both must agree; that no random membrane comes this close to one is part of the test.
    assert heights.abs().min() > 1e-9
    traces = [twin.forward(physics, list(column)) for column in currents.T]
    assert spikes.T.tolist() == [trace.spikes for trace in traces]
    charged = torch.tensor([trace.charged for trace in traces], dtype=torch.float64)
    torch.testing.assert_close(heights.T + 0.7, charged, rtol=1e-12, atol=1e-12)
    assert 0.1 < spikes.mean() < 0.9


@pytest.mark.parametrize("through_reset", [False, True])
@pytest.mark.parametrize("through_time", [False, True])
@pytest.mark.parametrize("v_reset", [0.0, -0.3, None])
@pytest.mark.parametrize("rule_name", RULES)
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_the_chain_rule_by_hand(
    kind: str, rule_name: str, v_reset: float | None, through_time: bool, through_reset: bool
) -> None:
    neuron, physics = build(kind, 1.8, 0.8, v_reset)
    alpha = 1.3
    rule = RULES[rule_name](alpha=alpha, through_time=through_time, through_reset=through_reset)
    generator = np.random.default_rng(2)
    currents, weights = generator.normal(0.5, 0.8, (5, 12)), generator.normal(size=(5, 12))
    x = torch.from_numpy(currents).requires_grad_()
    wanted = [x, *neuron.parameters()]
    loss = (rule(neuron, x, "site") * torch.from_numpy(weights)).sum()
    got = torch.autograd.grad(loss, wanted)
    expected, w_expected = np.zeros_like(currents), 0.0
    for image in range(currents.shape[1]):
        sequence = currents[:, image].tolist()
        gradient = twin.backward(
            physics,
            sequence,
            twin.forward(physics, sequence),
            weights[:, image].tolist(),
            lambda height: SURROGATES[rule_name].derivative(height, alpha),
            through_time=through_time,
            through_reset=through_reset,
        )
        expected[:, image] = gradient.currents
        w_expected += gradient.w
    assert np.abs(expected).max() > 0.1
    torch.testing.assert_close(got[0], torch.from_numpy(expected), rtol=1e-9, atol=1e-12)
    if kind.startswith("plif"):
        assert got[1].item() == pytest.approx(w_expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("currents", "spikes", "through", "detached"),
    [
        ((0.9, 0.8), (0, 1), (0.966096, 0.618486), (1.219413, 0.618486)),
        ((1.2, 0.7), (1, 0), (0.489142, 0.529587), (0.716957, 0.529587)),
    ],
)
def test_two_steps_with_known_gradients(
    currents: tuple[float, ...], spikes: tuple[int, ...], through: tuple[float, ...], detached: tuple[float, ...]
) -> None:
    """u = v / 2 + I, threshold 1, hard reset, ATan of alpha 2, L = s_1 + s_2."""
    neuron = LIF(tau=2.0, decay_input=False)
    for through_reset, expected in [(True, through), (False, detached)]:
        x = torch.tensor(currents, dtype=torch.float64)[:, None].requires_grad_()
        out = ATan(alpha=2.0, through_reset=through_reset)(neuron, x, "site")
        assert out[:, 0].tolist() == list(spikes)
        (gradient,) = torch.autograd.grad(out.sum(), x)
        assert gradient[:, 0].tolist() == pytest.approx(expected, abs=1e-6)


def test_an_untouched_plif_starts_at_its_tau() -> None:
    assert twin.tau_of(PLIF(init_tau=5.0).w.item()) == pytest.approx(5.0, rel=1e-6)


def test_a_neuron_remembers_nothing_between_calls() -> None:
    neuron = IF()
    loud, quiet = torch.full((3, 1), 0.6), torch.full((3, 1), 0.3)
    alone = watch(neuron, quiet)[0]
    watch(neuron, loud)
    assert torch.equal(watch(neuron, quiet)[0], alone)
    assert alone[:, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("v_reset", [0.0, None])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("step", [0, 3])
def test_a_current_that_is_not_finite_is_refused(kind: str, v_reset: float | None, poison: float, step: int) -> None:
    neuron, _ = build(kind, 2.0, 1.0, v_reset)
    currents = torch.zeros(4, 2, 3, dtype=torch.float64)
    currents[step, 1, 2] = poison
    with pytest.raises(SpikeproofError, match="finite input currents"):
        ATan()(neuron, currents, "site")


@pytest.mark.parametrize("options", [{"v_threshold": 0.0}, {"v_threshold": 1.0, "v_reset": 1.0}])
@pytest.mark.parametrize("cls", [IF, LIF, PLIF])
def test_a_neuron_that_would_always_fire_is_refused(cls: Any, options: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        cls(**options)
