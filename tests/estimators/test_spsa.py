"""SPSA: exact for one coordinate, unbiased for a linear loss also at the ends of the range, and forwards alone."""

from __future__ import annotations

import pytest
import torch
from objectives import Plain
from small import digits, trained
from torch import Tensor

from spikeproof.errors import UsageError
from spikeproof.estimators.spsa import SPSA
from spikeproof.losses import cross_entropy, margin
from spikeproof.rules.atan import ATan
from spikeproof.tensors import exact, image_keys, normal, uniform
from spikeproof.victims.scene import COMMON_DRAWS, Cost, Scene

B, D = 3, 6
KEYS = image_keys(0, torch.arange(B))
X = (1.6 * uniform(KEYS, (D,)).double() - 0.3).clamp(0, 1)  # some at the ends
SLOPE = normal(image_keys(1, torch.arange(B)), (D,)).double()


@pytest.mark.parametrize("start", [0.0, 0.003, 0.5, 1.0])
def test_one_coordinate_has_the_slope_of_the_secant(start: float) -> None:
    """Of a line its slope, of a parabola 2 a times the middle of what was really spanned."""
    x, c = torch.full((B, 1), start, dtype=torch.float64), 0.01
    a = SLOPE[:, :1]
    line = SPSA(draws=3, radius=c)(Plain(lambda x, salt: (a * x).sum(1), KEYS), x, None, 0)[1]
    torch.testing.assert_close(line, a, rtol=1e-10, atol=0)
    parabola = SPSA(draws=3, radius=c)(Plain(lambda x, salt: (a * x.square()).sum(1), KEYS), x, None, 0)[1]
    middle = (min(start + c, 1.0) + max(start - c, 0.0)) / 2
    torch.testing.assert_close(parabola, 2 * a * middle, rtol=1e-10, atol=0)


def test_a_linear_loss_has_its_slope_on_average() -> None:
    draws, c = 4000, 0.05
    f = Plain(lambda x, salt: (SLOPE * x).sum(1), KEYS)
    _, gradient, _ = SPSA(draws=draws, radius=c)(f, X, None, 0)
    width = (X + c).clamp(max=1) - (X - c).clamp(min=0)
    assert width.min() < 0.06
    energy = (SLOPE * width).square()
    spread = ((energy.sum(1, keepdim=True) - energy) / draws).sqrt() / width
    assert ((gradient - SLOPE).abs() < 5 * spread).all()
    assert ((gradient - SLOPE).abs() > 0.1 * spread).any()


def test_a_parabola_in_the_middle_of_the_range_has_no_error_of_second_order() -> None:
    """The difference is r' A x exactly, so the mean of r (r' A x) over the drawn r is the answer."""
    a = normal(image_keys(2, torch.arange(1)), (D, D))[0].double()
    a, x = a + a.T, 0.3 + 0.4 * X
    f = Plain(lambda x, salt: torch.einsum("bi,ij,bj->b", x, a, x) / 2, KEYS)
    _, gradient, _ = SPSA(draws=20, radius=0.1)(f, x, None, 0)
    r = ((torch.stack(f.points[1::2]) - x) / 0.1).round()
    expected = torch.einsum("nbi,nbj,jk,bk->bi", r, r, a, x) / 20
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
    assert (r.abs() == 1).all()


def test_pairs_are_opposite_in_the_box_and_on_the_same_noise() -> None:
    f = Plain(lambda x, salt: (SLOPE * x).sum(1) + salt, KEYS)
    score, _, _ = SPSA(draws=50, radius=0.1)(f, X, None, 4)
    assert torch.equal(f.points[0], X)
    torch.testing.assert_close(score.loss, (SLOPE * X).sum(1) + 200)
    assert f.salts == [200, *(salt for salt in range(200, 250) for _ in "+-")]
    assert f.gradients == 0
    assert all(rule is exact for rule in f.rules)
    up, down = torch.stack(f.points[1::2]), torch.stack(f.points[2::2])
    high, low = (X + 0.1).clamp(max=1), (X - 0.1).clamp(min=0)
    assert torch.equal(torch.maximum(up, down), high.expand_as(up))
    assert torch.equal(torch.minimum(up, down), low.expand_as(up))
    assert abs((up > down).double().mean().item() - 0.5) < 5 * 0.5 / up.numel() ** 0.5


@pytest.mark.parametrize("encoder", ["phase", "poisson"])
def test_forwards_alone_and_no_rule(encoder: str) -> None:
    x, y, ids = digits(3)
    cost = Cost(3)
    f = Scene(trained(encoder), x, y, image_keys(0, ids), "pixels").objective(margin, cost)
    one = SPSA(draws=5)(f, x, None, 1)
    asked = COMMON_DRAWS if encoder == "poisson" else 1
    assert cost.rows() == 3 * [{"forwards": 11 * asked, "backwards": 0}]
    other = SPSA(ATan(), draws=5)(f, x, None, 1)
    assert torch.equal(one[1], other[1])
    assert torch.equal(one[0].loss, f(x, exact, 5).loss)
    assert not torch.equal(SPSA(draws=5)(f, x, None, 2)[1], one[1])


def test_it_points_where_a_smooth_network_rises() -> None:
    """On logits that are smooth in the pixels it agrees with the gradient, up to the share that its draws can see."""
    w = normal(image_keys(3, torch.arange(1)), (4, 16))[0].double()

    def loss(x: Tensor, salt: int) -> Tensor:
        return cross_entropy(torch.tanh(x) @ w.T, torch.tensor([0, 1, 2]))

    x = 0.2 + 0.6 * uniform(KEYS, (16,)).double()
    slope = torch.autograd.grad(loss(x.requires_grad_(), 0).sum(), x)[0]
    found = SPSA(draws=400)(Plain(loss, KEYS), x.detach(), None, 0)[1]
    assert (torch.cosine_similarity(found, slope) > 0.95).all()


@pytest.mark.parametrize("options", [{"draws": 0}, {"radius": 0.0}, {"radius": -0.1}, {"radius": float("nan")}])
def test_wrong_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r"draws >= 1 and radius in \(0,1\]"):
        SPSA(**options)  # type: ignore[arg-type]
