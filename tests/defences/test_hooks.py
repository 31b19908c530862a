"""What happens to gradients and weights: DSD and RAT against numpy's singular values, and hooks in their order."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from oracles import defences as twin
from small import digits, trained
from torch import Tensor, nn

from spikeproof import parts
from spikeproof.defences.dsd import DSD, _dominant
from spikeproof.defences.noise import Noise
from spikeproof.defences.rat import RAT
from spikeproof.defences.sr import SR
from spikeproof.errors import SpikeproofError
from spikeproof.rules.atan import ATan
from spikeproof.tensors import image_keys

GENERATOR = np.random.default_rng(0)


def matrix(rows: int, columns: int, values: Any) -> Tensor:
    """With these singular values."""
    u, _ = np.linalg.qr(GENERATOR.normal(size=(rows, rows)))
    v, _ = np.linalg.qr(GENERATOR.normal(size=(columns, columns)))
    middle = np.zeros((rows, columns))
    np.fill_diagonal(middle, values)
    return torch.from_numpy(u @ middle @ v.T)


class Two(nn.Module):
    """A convolution of 4 x (2 3 3) and a linear layer of 3 x 5, with biases and a norm that must stay as they are."""

    def __init__(self, convolution: Tensor, linear: Tensor) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Linear(5, 3)
        self.double()
        with torch.no_grad():
            self.conv.weight.copy_(convolution.view_as(self.conv.weight))
            self.fc.weight.copy_(linear)


def singular(weight: Tensor) -> np.ndarray:
    return np.linalg.svd(weight.detach().flatten(1).numpy(), compute_uv=False)


@pytest.mark.parametrize("strength", [0.0, 0.004, 0.25])
def test_a_retraction_moves_singular_values_by_its_map(strength: float) -> None:
    wide, tall = [0.1, 0.7, 1.0, 1.9], [0.3, 1.0, 1.2]
    net = Two(matrix(4, 18, wide), matrix(3, 5, tall))
    others = {n: p.detach().clone() for n, p in net.named_parameters() if n not in ("conv.weight", "fc.weight")}
    RAT(strength=strength).after_step(net)
    for weight, values in ((net.conv.weight, wide), (net.fc.weight, tall)):
        expected = sorted((twin.retracted(s, strength) for s in values), reverse=True)
        np.testing.assert_allclose(singular(weight), expected, rtol=1e-10)
    assert all(torch.equal(dict(net.named_parameters())[n], p) for n, p in others.items())


def test_retractions_end_at_orthogonal_rows() -> None:
    net = Two(matrix(4, 18, [0.1, 0.7, 1.0, 1.9]), matrix(3, 5, [0.3, 1.0, 1.2]))
    for _ in range(400):
        RAT(strength=0.05).after_step(net)
    for weight in (net.conv.weight, net.fc.weight):
        rows = weight.detach().flatten(1)
        torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows), dtype=torch.float64), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("strength", "limit"), [(5e-4, 63), (2e-3, 32), (4e-3, 22)])
def test_the_guard_stands_where_the_map_turns_away(strength: float, limit: int) -> None:
    """Below it a value comes closer to 1 in size or passes over it and does so later; above it never."""
    turn = math.sqrt((2 + strength) / strength)
    assert round(turn) == limit
    for s, converges in ((0.999 * turn, True), (1.001 * turn, False)):
        assert (abs(twin.retracted(s, strength)) < s) == converges
        net = Two(matrix(4, 18, [s, 1, 1, 1]), torch.zeros(3, 5))
        before = net.conv.weight.detach().clone()
        if converges:
            RAT(strength=strength).after_step(net)
        else:
            with pytest.raises(SpikeproofError, match=r"singular values below .* in conv.*lower the defence"):
                RAT(strength=strength).after_step(net)
            assert torch.equal(net.conv.weight, before)


@pytest.mark.parametrize(("strength", "steps"), [(5e-4, 8500), (2e-3, 2100)])
def test_a_small_value_takes_some_four_over_b_steps(strength: float, steps: int) -> None:
    """From 0.1 to within a hundredth of 1."""
    s, taken = 0.1, 0
    while s < 0.99:
        s, taken = twin.retracted(s, strength), taken + 1
    assert taken == pytest.approx(steps, rel=0.02)


@pytest.mark.parametrize("shape", [(4, 18), (18, 4), (1, 7), (5, 5)])
def test_the_dominant_component_is_numpy_s(shape: tuple[int, int]) -> None:
    g = GENERATOR.normal(size=shape)
    u, s, v = np.linalg.svd(g, full_matrices=False)
    np.testing.assert_allclose(_dominant(torch.from_numpy(g)).numpy(), s[0] * np.outer(u[:, 0], v[0]), atol=1e-10)


def test_deflation_leaves_the_rest_and_the_vectors_alone() -> None:
    net = Two(torch.zeros(4, 18), torch.zeros(3, 5))
    wide, small = matrix(4, 18, [4.0, 3.0, 1.0, 0.5]), matrix(3, 5, [2.0, 1.0, 0.1])
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    net.conv.weight.grad, net.fc.weight.grad = wide.clone().view_as(net.conv.weight), small.clone()
    DSD().after_backward(net)
    np.testing.assert_allclose(singular(net.conv.weight.grad), [3.0, 1.0, 0.5, 0.0], atol=1e-10)
    np.testing.assert_allclose(singular(net.fc.weight.grad), [1.0, 0.1, 0.0], atol=1e-10)
    assert torch.equal(net.fc.bias.grad, torch.ones_like(net.fc.bias))
    net.fc.weight.grad = small.clone()
    DSD(share=0.25).after_backward(net)
    np.testing.assert_allclose(singular(net.fc.weight.grad), [1.5, 1.0, 0.1], atol=1e-10)


def test_parameters_without_a_gradient_are_passed_over() -> None:
    net = Two(torch.ones(4, 18), torch.ones(3, 5))
    DSD().after_backward(net)
    assert all(p.grad is None for p in net.parameters())


@dataclass(frozen=True)
class Noting:
    """Has hooks of its own."""

    said: list[str] = field(default_factory=list, hash=False)

    def __call__(self, *_: Any) -> Tensor:
        return torch.zeros(())

    def after_backward(self, victim: nn.Module) -> None:
        self.said.append("backward")

    def after_step(self, victim: nn.Module) -> None:
        self.said.append("step")


def test_hooks_reach_what_stands_below() -> None:
    net, noting = Two(torch.ones(4, 18), torch.ones(3, 5)), Noting()
    for top in (SR(base=noting), RAT(base=SR(base=noting)), DSD(base=Noise(base=noting))):
        top.after_backward(net)
        top.after_step(net)
    assert noting.said == ["backward", "step"] * 3


def test_both_hooks_of_a_chain_act() -> None:
    net = Two(matrix(4, 18, [1.9, 1.0, 0.7, 0.1]), matrix(3, 5, [1.2, 1.0, 0.3]))
    net.fc.weight.grad = matrix(3, 5, [2.0, 1.0, 0.1])
    below = {"name": "dsd", "base": {"name": "trades"}}
    chain = parts.build("defences", {"name": "rat", "strength": 0.1, "base": below})
    chain.after_backward(net)
    chain.after_step(net)
    np.testing.assert_allclose(singular(net.fc.weight.grad), [1.0, 0.1, 0.0], atol=1e-10)
    assert singular(net.fc.weight)[0] == pytest.approx(twin.retracted(1.2, 0.1))


def test_hooks_take_a_victim() -> None:
    victim, (x, y, ids) = trained(), digits(4)
    before = {n: p.detach().clone() for n, p in victim.named_parameters()}
    loss = RAT()(victim, x, y, ATan(), image_keys(0, ids), None)  # type: ignore[arg-type]
    loss.backward()  # type: ignore[no-untyped-call]
    DSD().after_backward(victim)
    RAT().after_step(victim)
    changed = {n for n, p in victim.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {n for n, p in before.items() if p.dim() >= 2}
