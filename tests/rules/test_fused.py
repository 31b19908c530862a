"""The fused backward against the plain form: same spikes, same gradient, for every neuron, shape and option."""

from __future__ import annotations

import dataclasses
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from spikeproof import parts
from spikeproof.errors import SpikeproofError
from spikeproof.neurons.if_ import IF
from spikeproof.neurons.lif import LIF
from spikeproof.neurons.plif import PLIF
from spikeproof.rules import Surrogate, _surrogate
from spikeproof.rules.atan import ATan
from spikeproof.rules.pdsg import PDSG

SHAPES = ("atan", "sigmoid", "triangle", "rectangle", "gaussian")
NEURONS = {
    "if": lambda **o: IF(**o),
    "lif": lambda **o: LIF(tau=1.7, **o),
    "lif-raw": lambda **o: LIF(tau=3.0, decay_input=False, **o),
}
RESETS = (0.0, -0.4, None)


def _gradient(rule: Surrogate | PDSG, neuron: torch.nn.Module, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    spikes = rule(neuron, x, "site")
    return spikes.detach(), torch.autograd.grad((spikes * weights).sum(), x)[0]


@pytest.mark.parametrize(
    ("shape", "neuron", "reset", "through_time", "through_reset"),
    list(product(SHAPES, NEURONS, RESETS, (True, False), (True, False))),
)
def test_fused_is_plain(shape: str, neuron: str, reset: float | None, through_time: bool, through_reset: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(7, 3, 5, generator=generator, dtype=torch.float64)
    weights = torch.randn(7, 3, 5, generator=generator, dtype=torch.float64)
    node = NEURONS[neuron](v_threshold=0.8, v_reset=reset)
    rule = parts.find("rules", shape)(alpha=1.3, through_time=through_time, through_reset=through_reset)
    spikes, gradient = _gradient(rule, node, x, weights)
    plain_spikes, plain = _gradient(dataclasses.replace(rule, fused=False), node, x, weights)
    assert 0 < float(spikes.mean()) < 1
    assert torch.equal(spikes, plain_spikes)
    torch.testing.assert_close(gradient, plain, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("neuron", "reset", "through_reset"), list(product(NEURONS, RESETS, (True, False))))
@pytest.mark.parametrize(("shape", "dtype"), list(product([(5,), (3, 4, 2)], [torch.float32, torch.float64])))
def test_the_fused_pdsg_is_plain(
    neuron: str, reset: float | None, through_reset: bool, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    x, weights = (torch.randn(7, 3, *shape, generator=torch.Generator().manual_seed(n)).to(dtype) for n in (3, 4))
    node, rule = NEURONS[neuron](v_threshold=0.8, v_reset=reset), PDSG(through_reset=through_reset)
    spikes, gradient = _gradient(rule, node, x, weights)
    plain_spikes, plain = _gradient(dataclasses.replace(rule, fused=False), node, x, weights)
    assert 0 < float(spikes.mean()) < 1
    assert torch.equal(spikes, plain_spikes)
    close = {"rtol": 1e-12, "atol": 1e-14} if dtype == torch.float64 else {"rtol": 2e-4, "atol": 2e-5}
    torch.testing.assert_close(gradient, plain, **close)


@given(st.integers(1, 6), st.integers(1, 4), st.sampled_from(SHAPES), st.integers(0, 2**31))
def test_fused_is_plain_for_any_length(steps: int, images: int, shape: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(steps, images, generator=generator, dtype=torch.float64)
    rule = parts.find("rules", shape)(alpha=2.0, through_reset=True)
    _, gradient = _gradient(rule, LIF(), x, torch.ones_like(x))
    _, plain = _gradient(dataclasses.replace(rule, fused=False), LIF(), x, torch.ones_like(x))
    torch.testing.assert_close(gradient, plain, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("shape", SHAPES)
def test_derivative_is_that_of_the_primitive(shape: str) -> None:
    rule = parts.find("rules", shape)(alpha=1.7)
    x = torch.linspace(-3, 3, 301, dtype=torch.float64).requires_grad_()
    slope = torch.autograd.grad(rule.primitive(x).sum(), x)[0]
    torch.testing.assert_close(rule.derivative(x.detach()), slope, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("rule", [ATan(), PDSG()])
def test_second_derivative_is_refused_when_fused_and_there_when_plain(rule: Surrogate | PDSG) -> None:
    x = torch.full((2, 1), 0.4, dtype=torch.float64, requires_grad=True)
    with pytest.raises(SpikeproofError, match="fused=False"):
        torch.autograd.grad(rule(IF(), x, "s").sum(), x, create_graph=True)
    plain = torch.autograd.grad(dataclasses.replace(rule, fused=False)(IF(), x, "s").sum(), x, create_graph=True)[0]
    assert bool((torch.autograd.grad(plain.sum(), x)[0] != 0).all())


def test_which_neurons_are_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """PLIF's gains are learned, so it takes the plain form, and its leak gets a gradient."""
    taken: list[object] = []
    fused = _surrogate.fused_scan

    def spy(neuron: object, *rest: object) -> Tensor:
        taken.append(neuron)
        return fused(neuron, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(_surrogate, "fused_scan", spy)
    x = torch.full((3, 2), 0.7, requires_grad=True)
    plif, lif = PLIF(), LIF()
    ATan()(plif, x, "s").sum().backward()
    ATan()(lif, x, "s").sum().backward()
    ATan(fused=False)(lif, x, "s")
    assert taken == [lif]
    assert plif.w.grad is not None
    assert float(plif.w.grad) != 0.0
