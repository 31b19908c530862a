"""Attacks on a linear two-class model, where the optimum is known in closed form: x + eps sign(w), x + eps w / |w|."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from objectives import unending
from torch import Tensor

from spikeproof.attacks.fgsm import FGSM
from spikeproof.attacks.pgd import PGD
from spikeproof.attacks.rfgsm import RFGSM
from spikeproof.errors import SpikeproofError
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.rules.atan import ATan
from spikeproof.tensors import image_keys, normal
from spikeproof.threats.l2 import L2
from spikeproof.threats.linf import Linf
from spikeproof.types import Score

D, B, EPS = 50, 4, 0.03
ESTIMATOR = WhiteBox(ATan())
KEYS = image_keys(0, torch.arange(B))
# The difference of the two classes' weights: every second one exactly zero, none of the others near it.
W = normal(KEYS[:1], (D,))[0].double()
W = torch.where(torch.arange(D) % 2 == 0, W + W.sign() / 10, 0.0)
LIVE = W != 0


class Linear:
    """Margin of the wrong class, w x + b, linear in x; what was asked is counted. `blind`: entries a hook hides."""

    final = False

    def __init__(self, bias: float = -100.0, blind: Tensor | None = None) -> None:
        self.bias = bias
        self.blind = torch.zeros(D, dtype=torch.bool) if blind is None else blind
        self.calls = 0

    def __call__(self, x: Tensor, rule: Any, salt: int) -> Score:
        self.calls += 1
        loss = torch.where(self.blind, x.detach(), x) @ W + self.bias
        return Score(loss, loss.detach() > 0)


def gain(x: Tensor, x0: Tensor) -> Tensor:
    return (x - x0) @ W


def clean(inside: bool) -> Tensor:
    """Pixels in [0,1]; away from its ends by more than eps, or many closer than that."""
    x = torch.rand(B, D, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return 0.1 + 0.8 * x if inside else (1.4 * x - 0.2).clamp(0, 1)


PGDS = [
    PGD(),
    PGD(keep="last"),
    PGD(steps=7, restarts=3),
    PGD(steps=10, random_start=False),
    PGD(steps=40, step_size=EPS / 4, keep="last"),
]


def test_half_the_weights_are_zero() -> None:
    assert LIVE.sum() == D // 2
    assert W[LIVE].abs().min() > 0.05


def test_fgsm_gains_exactly_eps_times_the_l1_norm() -> None:
    x0, f = clean(inside=True), Linear()
    x = FGSM()(f, x0, Linf(EPS), ESTIMATOR, KEYS)
    torch.testing.assert_close(gain(x, x0), (EPS * W.abs().sum()).expand(B), rtol=1e-10, atol=0)
    torch.testing.assert_close(x, x0 + EPS * W.sign(), rtol=0, atol=1e-15)
    assert torch.equal(x[:, ~LIVE], x0[:, ~LIVE])
    assert f.calls == 1


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("attack", [FGSM(), *PGDS], ids=repr)
def test_linf_attacks_end_at_the_corner_of_the_box(attack: Any, inside: bool) -> None:
    x0 = clean(inside)
    x = attack(Linear(), x0, Linf(EPS), ESTIMATOR, KEYS)
    corner = (x0 + EPS * W.sign()).clamp(0, 1)
    torch.testing.assert_close(x[:, LIVE], corner[:, LIVE], rtol=0, atol=1e-15)
    assert Linf(EPS).distance(x, x0).max() <= EPS + 1e-12
    assert x.min() >= 0
    assert x.max() <= 1
    torch.testing.assert_close(gain(x, x0), gain(corner, x0))
    if inside:
        torch.testing.assert_close(gain(x, x0), (EPS * W.abs().sum()).expand(B), rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    "attack", [FGSM(), PGD(random_start=False), PGD(steps=60, step_size=0.2, keep="last")], ids=repr
)
def test_l2_attacks_end_in_the_direction_of_the_weights(attack: Any) -> None:
    """From a random start the part of the shift that is not along w halves with each step of length eps."""
    x0, eps = clean(inside=True), 0.2
    x = attack(Linear(), x0, L2(eps), ESTIMATOR, KEYS)
    reach = eps * W / W.norm()
    assert reach.abs().max() < 0.1  # the box does not bind
    torch.testing.assert_close(x, x0 + reach.expand(B, D), rtol=0, atol=1e-12)
    torch.testing.assert_close(gain(x, x0), (eps * W.norm()).expand(B))


@pytest.mark.parametrize("attack", [FGSM(), RFGSM(), PGD(steps=5)], ids=repr)
def test_l2_attacks_stay_in_ball_and_box(attack: Any) -> None:
    x0 = clean(inside=False)
    x = attack(Linear(), x0, L2(1.0), ESTIMATOR, KEYS)
    assert x.min() >= 0
    assert x.max() <= 1
    assert L2(1.0).distance(x, x0).max() <= 1.0 + 1e-12
    assert (gain(x, x0) > 0).all()


def test_rfgsm_takes_half_the_step_at_random() -> None:
    """Each live coordinate ends at 0 or at eps sign(w), by the sign of its random half; a dead one at +- eps / 2."""
    x0 = clean(inside=True)
    shift = (RFGSM()(Linear(), x0, Linf(EPS), ESTIMATOR, KEYS) - x0) / EPS
    along = (shift * W.sign())[:, LIVE]
    # The random half is drawn in float32.
    assert torch.minimum(along.abs(), (along - 1).abs()).max() < 1e-7
    torch.testing.assert_close(shift[:, ~LIVE].abs(), torch.full((B, D // 2), 0.5, dtype=x0.dtype))
    # 100 fair coins: five standard deviations are 25.
    assert abs(along.sum().item() - 50) < 25


def test_a_hidden_gradient_costs_exactly_its_share() -> None:
    """FGSM does not move where a hook hides the gradient: the gain drops by eps times the l1 norm of what it hides."""
    x0 = clean(inside=True)
    blind = LIVE & (torch.arange(D) % 6 == 0)
    assert 5 <= blind.sum() < LIVE.sum()
    seen = gain(FGSM()(Linear(), x0, Linf(EPS), ESTIMATOR, KEYS), x0)
    hidden = gain(FGSM()(Linear(blind=blind), x0, Linf(EPS), ESTIMATOR, KEYS), x0)
    torch.testing.assert_close(seen - hidden, (EPS * W[blind].abs().sum()).expand(B), rtol=1e-10, atol=0)


@pytest.mark.parametrize("attack", [RFGSM(), *PGDS], ids=repr)
def test_an_image_is_attacked_the_same_in_any_batch(attack: Any) -> None:
    x0, order = clean(inside=False), torch.tensor([2, 0, 3, 1])
    whole = attack(Linear(), x0, Linf(EPS), ESTIMATOR, KEYS)
    assert torch.equal(attack(Linear(), x0[order], Linf(EPS), ESTIMATOR, KEYS[order]), whole[order])
    assert torch.equal(attack(Linear(), x0[1:2], Linf(EPS), ESTIMATOR, KEYS[1:2]), whole[1:2])


@pytest.mark.parametrize("attack", [FGSM(), RFGSM(), *PGDS], ids=repr)
def test_the_clean_image_is_not_written_to(attack: Any) -> None:
    x0 = clean(inside=True)
    before = x0.clone()
    attack(Linear(), x0, Linf(EPS), ESTIMATOR, KEYS)
    assert torch.equal(x0, before)
    assert not x0.requires_grad


@pytest.mark.parametrize("attack", [FGSM(), PGD(random_start=False)], ids=repr)
def test_a_zero_gradient_moves_nothing_and_is_no_error(attack: Any) -> None:
    x0 = clean(inside=True)
    flat = unending(lambda x, rule, salt: Linear()(0 * x, rule, salt))
    for threat in (Linf(EPS), L2(EPS)):
        assert torch.equal(attack(flat, x0, threat, ESTIMATOR, KEYS), x0)


@unending
def ridge(x: Tensor, rule: Any, salt: int) -> Score:
    """Highest on the ridge mean(x) = 0.512, where alone the image is broken; steps of 0.02 jump across it."""
    loss = -(x.mean(1) - 0.512).abs()
    return Score(loss, loss.detach() > -0.005)


def test_pgd_keeps_the_best_point_it_met() -> None:
    """The iterates are 0.49, 0.51 (broken), 0.53, 0.51, ... and the eighth, the last, is unbroken."""
    x0 = torch.full((B, D), 0.49, dtype=torch.float64)
    best, last = (
        PGD(steps=8, step_size=0.02, random_start=False, keep=keep)(ridge, x0, Linf(0.1), ESTIMATOR, KEYS)
        for keep in ("best", "last")
    )
    torch.testing.assert_close(best, torch.full_like(x0, 0.51))
    assert ridge(best, None, 0).fooled.all()
    assert not ridge(last, None, 0).fooled.any()


def test_pgd_offers_its_last_iterate_too() -> None:
    x0 = torch.full((B, D), 0.49, dtype=torch.float64)
    x = PGD(steps=1, step_size=0.02, random_start=False)(ridge, x0, Linf(0.1), ESTIMATOR, KEYS)
    torch.testing.assert_close(x, torch.full_like(x0, 0.51))


def test_pgd_keeps_a_success_before_a_higher_loss() -> None:
    """Broken only near the start, while the loss goes on rising: the broken point is the one to return."""

    @unending
    def f(x: Tensor, rule: Any, salt: int) -> Score:
        loss = x.mean(1)
        return Score(loss, (loss.detach() - 0.5).abs() < 0.015)

    x0 = torch.full((B, D), 0.47, dtype=torch.float64)
    x = PGD(steps=10, step_size=0.01, random_start=False)(f, x0, Linf(0.1), ESTIMATOR, KEYS)
    assert f(x, None, 0).fooled.all()
    torch.testing.assert_close(x, torch.full_like(x0, 0.51))


def test_a_cut_graph_and_a_gradient_that_is_not_finite_are_refused() -> None:
    x0 = clean(inside=True)
    with pytest.raises(SpikeproofError, match="cut graph"):
        FGSM()(lambda x, rule, salt: Linear()(x.detach(), rule, salt), x0, Linf(EPS), ESTIMATOR, KEYS)
    with pytest.raises(SpikeproofError, match="finite"):
        FGSM()(lambda x, rule, salt: Linear()(x * float("nan"), rule, salt), x0, Linf(EPS), ESTIMATOR, KEYS)
