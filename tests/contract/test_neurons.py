"""Every neuron: exact spikes, causal, one image at a time, silent without input, and no memory of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small import untouched
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from spikeproof import parts
from spikeproof.rules.atan import ATan
from spikeproof.tensors import exact, image_keys, normal

each_neuron = pytest.mark.parametrize("name", parts.names("neurons"))
T, B = 7, 5


def neuron(name: str) -> Any:
    return parts.build("neurons", {"name": name})


def currents(dtype: torch.dtype = torch.float32) -> Tensor:
    """(T,B,3,4), strong and weak, of both signs."""
    return (0.4 + 1.3 * normal(image_keys(1, torch.arange(B)), (T, 3, 4))).transpose(0, 1).to(dtype)


@each_neuron
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_spikes_are_0_or_1(name: str, dtype: torch.dtype) -> None:
    x = currents(dtype)
    spikes = exact(neuron(name), x, "site")
    assert spikes.shape == x.shape
    assert spikes.dtype == dtype
    assert set(spikes.detach().unique().tolist()) == {0.0, 1.0}


@each_neuron
def test_a_spike_depends_on_nothing_that_comes_later(name: str) -> None:
    part, x = neuron(name), currents()
    whole = exact(part, x, "site")
    for k in range(1, T):
        assert torch.equal(exact(part, x[:k], "site"), whole[:k])


@each_neuron
def test_images_do_not_know_of_each_other(name: str) -> None:
    part, x, order = neuron(name), currents(), torch.tensor([3, 0, 4, 1, 2])
    whole = exact(part, x, "site")
    assert torch.equal(exact(part, x[:, order], "site"), whole[:, order])
    for i in range(B):
        assert torch.equal(exact(part, x[:, i : i + 1], "site"), whole[:, i : i + 1])


@each_neuron
def test_silent_without_input(name: str) -> None:
    assert not exact(neuron(name), torch.zeros(T, B, 3), "site").any()


@each_neuron
def test_a_run_leaves_nothing_behind(name: str) -> None:
    """Weights, buffers and attributes are as before, and the next run starts at rest."""
    part, x = neuron(name), currents()
    before = x.clone()
    with untouched(part):
        first = exact(part, x, "site")
        assert torch.equal(exact(part, x, "site"), first)
    assert torch.equal(x, before)
    assert isinstance(part, nn.Module)
    assert not list(part.buffers())


@each_neuron
def test_the_ways_of_the_gradient_change_no_value(name: str) -> None:
    part, x = neuron(name), currents()
    plain = exact(part, x, "site")
    for through_time in (False, True):
        for through_reset in (False, True):
            rule = ATan(through_time=through_time, through_reset=through_reset)
            assert torch.equal(rule(part, x.clone().requires_grad_(), "site"), plain)


@each_neuron
@pytest.mark.parametrize("fused", [False, True])
def test_recomputing_in_the_backward_gives_the_same_gradients(name: str, fused: bool) -> None:
    part, weights = neuron(name), currents(torch.float64) - 0.3
    part.double()

    def gradients(again: bool) -> list[Tensor]:
        x = currents(torch.float64).requires_grad_()
        run = (ATan(fused=fused), part, x, "site")
        spikes = checkpoint(*run, use_reentrant=False) if again else run[0](*run[1:])
        return list(torch.autograd.grad((spikes * weights).sum(), [x, *part.parameters()]))

    plain, recomputed = gradients(False), gradients(True)
    assert plain[0].abs().max() > 0
    for one, other in zip(plain, recomputed, strict=True):
        assert torch.equal(one, other)
