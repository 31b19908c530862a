"""What the iterative attacks step by: when they look back, and how a gradient becomes a direction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from oracles import ascent

from spikeproof.attacks._ascent import Momentum, StableAdaptive, checkpoints
from spikeproof.tensors import image_keys, normal
from spikeproof.threats.l2 import L2
from spikeproof.threats.linf import Linf

EPS = 0.1

MARKS = {
    100: [22, 41, 57, 70, 80, 87, 93, 99],
    50: [11, 21, 30, 38, 45],
    20: [4, 7, *range(9, 21)],
    10: [*range(2, 11)],
}
CONSTANT = [1, 1.11803, 1.12032, 1.09130, 1.05674, 1.02499, 0.99827, 0.97662]
ALTERNATING = [1, -0.37268, 0.48014, -0.36377, 0.37497, -0.34166, 0.33800, -0.32554]


@pytest.mark.parametrize("steps", MARKS)
def test_checkpoints(steps: int) -> None:
    assert checkpoints(steps) == MARKS[steps] == ascent.checkpoints(steps)


def test_checkpoints_of_any_number_of_steps() -> None:
    assert [checkpoints(n) for n in range(1, 1200)] == [ascent.checkpoints(n) for n in range(1, 1200)]


def test_the_twin_of_the_stable_adaptive_step_has_the_known_values() -> None:
    one = np.ones(1)
    assert np.ravel(ascent.sa_multipliers([one] * 8)) == pytest.approx(CONSTANT, abs=6e-6)
    signs = [one * (-1) ** k for k in range(8)]
    assert np.ravel(ascent.sa_multipliers(signs)) == pytest.approx(ALTERNATING, abs=6e-6)
    assert ascent.sa_multipliers([one] * 200)[-1][0] == pytest.approx(0.894427, abs=1e-6)


@pytest.mark.parametrize("size", [1e-3, 1.0, 40.0])
@pytest.mark.parametrize("shape", [(1,), (2, 3, 3), (4, 2, 3, 3)])
def test_stable_adaptive_step(size: float, shape: tuple[int, ...]) -> None:
    """Whatever the gradient's size and the image's axes; events have one axis more than images."""
    g = torch.full((2, *shape), size, dtype=torch.float64)
    steady, swinging = StableAdaptive(), StableAdaptive()
    for k in range(8):
        clipped = torch.full_like(g, min(CONSTANT[k], 1.0))
        torch.testing.assert_close(steady(g), clipped, rtol=0, atol=6e-6)
        expected = torch.full_like(g, ALTERNATING[k])
        torch.testing.assert_close(swinging(g * (-1) ** k), expected, rtol=0, atol=6e-6)
    for _ in range(100):
        limit = steady(g)
    torch.testing.assert_close(limit, torch.full_like(g, 0.894427), rtol=0, atol=1e-6)


def test_the_first_stable_adaptive_step_is_the_sign() -> None:
    g = normal(image_keys(0, torch.arange(3)), (8,)).double()
    g[:, ::3] = 0
    assert torch.equal(StableAdaptive()(g), g.sign())


def test_a_coordinate_without_a_gradient_moves_by_what_it_remembers() -> None:
    towards = StableAdaptive()
    towards(torch.tensor([[1.0, -1.0, 0.0]], dtype=torch.float64))
    step = towards(torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64))[0]
    # Second coordinate: m = -0.5 * 3/2, v = 0.8 * 3/2.
    assert step.tolist() == pytest.approx([1.0, -0.75 / 1.2**0.5, 0.0])


def test_an_image_without_a_gradient_stays_and_recovers() -> None:
    """No NaN while the gradient is zero everywhere, and none after."""
    for towards in (StableAdaptive(), Momentum(Linf(EPS), 1.0), Momentum(L2(EPS), 1.0)):
        g = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, -3.0]])
        first = towards(g)
        assert first[0].tolist() == [0.0] * 3
        assert first[1].sign().tolist() == [1.0, 1.0, -1.0]
        assert towards(g.flip(0)).sign()[0].tolist() == [1.0, 1.0, -1.0]


@pytest.mark.parametrize("make", [StableAdaptive, lambda: Momentum(Linf(EPS), 1.0), lambda: Momentum(L2(EPS), 1.0)])
@pytest.mark.parametrize("scale", [2.0**-60, 2.0**-80, 2.0**-110, 2.0**60])
def test_a_direction_does_not_depend_on_the_gradients_size(make: Any, scale: float) -> None:
    """A confident float32 network has gradients whose squares are 0; the direction is there all the same."""
    one, other = make(), make()
    for seed in range(5):
        g = normal(image_keys(seed, torch.arange(3)), (7,))
        torch.testing.assert_close(other(scale * g), one(g), rtol=1e-5, atol=1e-6)
