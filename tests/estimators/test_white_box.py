"""White box with filled zeros: random signs where the gradient is 0, and nothing else that a step would notice."""

from __future__ import annotations

import pytest
import torch
from objectives import Plain
from torch import Tensor

from spikeproof.attacks._ascent import Momentum, StableAdaptive
from spikeproof.attacks.fgsm import FGSM
from spikeproof.attacks.pgd import PGD
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.rules.atan import ATan
from spikeproof.tensors import image_keys, normal, uniform
from spikeproof.threats.l2 import L2
from spikeproof.threats.linf import Linf

B = 5
KEYS = image_keys(0, torch.arange(B))
X = 0.2 + 0.6 * uniform(KEYS, (1, 8, 8))
SLOPE = normal(image_keys(1, torch.arange(B)), (1, 8, 8))
OPEN = uniform(image_keys(2, torch.arange(B)), (1, 8, 8)) < 0.5
"""Where the gradient is let through."""

PLAIN, FILLED = WhiteBox(ATan()), WhiteBox(ATan(), fill_zeros=True)
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def linear(slope: Tensor) -> Plain:
    return Plain(lambda x, salt: (x * slope).flatten(1).sum(1), KEYS)


def gradient(estimator: WhiteBox, slope: Tensor, salt: int = 0) -> Tensor:
    x = X.to(slope)
    return estimator(linear(slope), x, estimator.init(x), salt)[1]


@each_dtype
def test_only_zeros_are_filled_with_fresh_signs_of_no_size(dtype: torch.dtype) -> None:
    slope = (SLOPE * OPEN).to(dtype)
    assert torch.equal(gradient(PLAIN, slope), slope)
    found = [gradient(FILLED, slope, salt) for salt in range(20)]
    smallest = slope[slope != 0].abs().min()
    for g in found:
        assert torch.equal(g[OPEN], slope[OPEN])
        assert (g[~OPEN] != 0).all()
        assert g[~OPEN].abs().max() < 1e-20 * smallest
    assert torch.equal(gradient(FILLED, slope, 3), found[3])
    signs = torch.stack([g[~OPEN].sign() for g in found])
    assert abs(signs.mean().item()) < 5 / signs.numel() ** 0.5
    assert (signs.mean(0).abs() < 1).all()  # every coordinate meets both signs in 20 steps
    images = [g.sign().flatten(1)[:, ~OPEN.flatten(1).any(0)] for g in found]
    assert not any(torch.equal(one[0], one[1]) for one in images if one.shape[1] > 20)


@each_dtype
@pytest.mark.parametrize("scale", [1e-45, 1e-40, 1e-30, 1.0, 1e6])
def test_fills_stay_above_zero_in_what_attacks_make_of_them(dtype: torch.dtype, scale: float) -> None:
    slope = (SLOPE * OPEN).to(dtype) * scale
    g = gradient(FILLED, slope)
    for threat in (Linf(0.1), L2(0.1)):
        assert (Momentum(threat, 1.0)(g) != 0).all()
    assert (Linf(0.1).ascend(g).abs() == 1).all()


def test_steps_along_the_gradient_do_not_notice() -> None:
    slope = SLOPE * OPEN
    plain, filled = gradient(PLAIN, slope), gradient(FILLED, slope)
    assert (L2(1.0).ascend(filled) - L2(1.0).ascend(plain)).abs().max() < 1e-20
    stable = StableAdaptive(), StableAdaptive()
    for _ in range(3):
        assert (stable[0](filled) - stable[1](plain)).abs().max() < 1e-12


@each_dtype
def test_a_gradient_of_zeros_becomes_a_random_corner(dtype: torch.dtype) -> None:
    g = gradient(FILLED, torch.zeros(B, 1, 8, 8, dtype=dtype))
    assert (g != 0).all()
    for step in (Linf(1.0).ascend(g), 8 * L2(1.0).ascend(g), Momentum(Linf(1.0), 1.0)(g), StableAdaptive()(g)):
        torch.testing.assert_close(step, g.sign())
    assert len({tuple(corner.tolist()) for corner in g.sign().flatten(1)}) == B


def test_it_finds_what_a_masked_gradient_hides() -> None:
    """The loss depends on all pixels, its gradient on half: a sign step alone never moves the other half."""

    def masked(x: Tensor, salt: int) -> Tensor:
        return (torch.where(OPEN, x, x.detach()) * SLOPE).flatten(1).sum(1)

    threat, f = Linf(0.1), Plain(masked, KEYS)
    plain, filled = (FGSM()(f, X, threat, one, KEYS) for one in (PLAIN, FILLED))
    assert torch.equal(plain[~OPEN], X[~OPEN])
    torch.testing.assert_close((filled - X).abs(), torch.full_like(X, 0.1))
    assert torch.equal(plain[OPEN], filled[OPEN])
    many = PGD(steps=100, step_size=0.1, random_start=False)
    plain, filled = (many(f, X, threat, one, KEYS) for one in (PLAIN, FILLED))
    assert (masked(filled, 0) > masked(plain, 0)).all()
