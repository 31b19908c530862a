"""Every rule: it changes the gradient and never a spike."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from small import untouched
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from spikeproof import parts
from spikeproof.tensors import exact, image_keys, normal

each_rule = pytest.mark.parametrize("name", parts.names("rules"))
each_pair = pytest.mark.parametrize(
    ("name", "neuron_name"), list(itertools.product(parts.names("rules"), parts.names("neurons")))
)
T, B = 6, 5


def rule(name: str) -> Any:
    return parts.build("rules", {"name": name})


def neuron(name: str) -> Any:
    return parts.build("neurons", {"name": name})


def currents(dtype: torch.dtype = torch.float32, scale: float = 1.0) -> Tensor:
    x = (0.5 + 1.1 * normal(image_keys(2, torch.arange(B)), (T, 3, 4))).transpose(0, 1).to(dtype)
    # Some membranes exactly at the threshold: a tie fires, under every rule.
    x[0, :, 0, 0] = 1.0
    return scale * x


@each_pair
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_spikes_are_bit_for_bit_the_exact_ones(name: str, neuron_name: str, dtype: torch.dtype) -> None:
    part, x = neuron(neuron_name), currents(dtype)
    with torch.no_grad():
        expected = exact(part, x, "site")
        plain = rule(name)(part, x, "site")
    grafted = rule(name)(part, x.clone().requires_grad_(), "site")
    assert grafted.requires_grad
    assert grafted.dtype == dtype
    assert torch.equal(plain, expected)
    assert torch.equal(grafted, expected)


def gradient(part: Any, unit: Any, x: Tensor, *, again: bool = False) -> tuple[Tensor, ...]:
    """Of a weighted sum of spikes: for the currents, and for those of the neuron's parameters that the rule reaches.

    A rule that is made for attacks need not reach a neuron's own parameters.
    """
    x = x.clone().requires_grad_()
    weights = torch.cos(torch.arange(float(x.numel()))).view_as(x).to(x.dtype)
    spikes = checkpoint(unit, part, x, "site", use_reentrant=False) if again else unit(part, x, "site")
    found = torch.autograd.grad((spikes * weights).sum(), [x, *part.parameters()], allow_unused=True)
    assert found[0] is not None
    return tuple(g for g in found if g is not None)


@each_pair
def test_gradients_are_finite_and_not_all_zero(name: str, neuron_name: str) -> None:
    found = gradient(neuron(neuron_name), rule(name), currents())
    assert all(torch.isfinite(g).all() for g in found)
    assert found[0].abs().max() > 0


@each_pair
@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_extreme_currents_give_finite_gradients(name: str, neuron_name: str, scale: float) -> None:
    assert all(torch.isfinite(g).all() for g in gradient(neuron(neuron_name), rule(name), currents(scale=scale)))


@each_pair
def test_recomputing_in_the_backward_gives_the_same_gradients(name: str, neuron_name: str) -> None:
    part, x = neuron(neuron_name).double(), currents(torch.float64)
    plain, recomputed = gradient(part, rule(name), x), gradient(part, rule(name), x, again=True)
    assert plain[0].abs().max() > 0
    for one, other in zip(plain, recomputed, strict=True):
        assert torch.equal(one, other)


@each_rule
def test_a_rule_keeps_nothing_and_leaves_the_neuron_alone(name: str) -> None:
    part, unit, x = neuron("lif"), rule(name), currents(torch.float64)
    before = repr(unit)
    with untouched(part):
        first = gradient(part, unit, x)[0]
        gradient(part, unit, 2 * x)
        assert torch.equal(gradient(part, unit, x)[0], first)
    assert repr(unit) == before


@each_rule
def test_the_spikes_of_an_image_are_the_same_in_any_batch(name: str) -> None:
    """The gradient need not be: a rule may scale by a statistic of the batch, the value never."""
    part, unit, x, order = neuron("lif"), rule(name), currents(), torch.tensor([3, 0, 4, 1, 2])
    whole = unit(part, x.clone().requires_grad_(), "site")
    assert torch.equal(unit(part, x[:, order].clone().requires_grad_(), "site"), whole[:, order])
    assert torch.equal(unit(part, x[:, 1:2].clone().requires_grad_(), "site"), whole[:, 1:2])
