"""EOT: closed forms of the mean over spikes and over a neighbourhood, and what is said of the point itself."""

from __future__ import annotations

import pytest
import torch
from objectives import Plain
from small import digits, trained
from torch import Tensor

from spikeproof.encoders.poisson import Poisson
from spikeproof.errors import UsageError
from spikeproof.estimators.eot import EOT
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.losses import cross_entropy
from spikeproof.rules.atan import ATan
from spikeproof.tensors import exact, fold, image_keys, normal, uniform
from spikeproof.victims.scene import Cost, Scene

B, D = 3, 7
KEYS = image_keys(0, torch.arange(B))
X = uniform(KEYS, (D,)).double()


def test_the_mean_gradient_through_spikes_is_that_of_the_expected_loss() -> None:
    """For sum_ij c_ij s_i s_j with independent spikes of mean x it is sum_j (c_ij + c_ji) x_j; c has no diagonal."""
    c = normal(image_keys(1, torch.arange(1)), (D, D))[0].double()
    c = c - c.diag().diag()

    def loss(x: Tensor, salt: int) -> Tensor:
        s = Poisson()(x, 1, fold(KEYS, salt))[0]
        assert set(s.unique().tolist()) <= {0.0, 1.0}
        return torch.einsum("bi,ij,bj->b", s, c, s)

    draws, both = 4000, c + c.T
    score, gradient, _ = EOT(ATan(), draws=draws)(Plain(loss, KEYS), X, None, 0)
    expected, spread = X @ both, ((X * (1 - X)) @ both.square() / draws).sqrt()
    assert ((gradient - expected).abs() < 5 * spread).all()
    assert ((gradient - expected).abs() > 0.1 * spread).any()
    value = torch.einsum("bi,ij,bj->b", X, c, X)
    assert (score.loss - value).abs().max() < 5 * both.abs().sum() / draws**0.5


@pytest.mark.parametrize("radius", [0.0, 0.05, 1.0])
def test_the_mean_over_a_neighbourhood_of_a_parabola(radius: float) -> None:
    """loss = sum a x^2 / 2 has slope a x, so the mean slope is a times the mean point, and the points are known."""
    a = normal(image_keys(2, torch.arange(1)), (D,))[0].double()
    f = Plain(lambda x, salt: (a * x.square()).sum(1) / 2, KEYS)
    score, gradient, _ = EOT(ATan(), draws=40, radius=radius)(f, X, None, 3)
    points = torch.stack(f.points[:40])
    torch.testing.assert_close(gradient, a * points.mean(0), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(score.loss, (a * points.square()).sum(2).mean(0) / 2, rtol=1e-12, atol=1e-14)
    assert (points - X).abs().max() <= radius
    assert points.min() >= 0
    assert points.max() <= 1
    if radius:
        assert len({tuple(p.flatten().tolist()) for p in points}) == 40
        inside = ((X - radius >= 0) & (X + radius <= 1)).all(0)
        moved = ((points - X) / radius)[..., inside]
        assert abs(moved.mean().item() if inside.any() else 0.0) < 5 / (3 * 40 * B * max(int(inside.sum()), 1)) ** 0.5


def test_a_neighbour_never_counts_as_fooled() -> None:
    for fooled, expected in ((lambda x: (x != X).any(1), False), (lambda x: (x == X).all(1), True)):
        f = Plain(lambda x, salt: x.sum(1), KEYS, fooled=fooled)
        score, _, _ = EOT(ATan(), draws=4, radius=0.1)(f, X, None, 0)
        assert score.fooled.tolist() == [expected] * B
        assert torch.equal(f.points[-1], X)
        assert f.rules[-1] is exact
        assert f.gradients == 4


def test_no_two_steps_share_a_salt() -> None:
    f = Plain(lambda x, salt: x.sum(1), KEYS)
    for salt in range(5):
        EOT(ATan(), draws=6)(f, X, None, salt)
    assert sorted(f.salts) == list(range(30))


@pytest.mark.parametrize("encoder", ["direct", "phase", "poisson"])
def test_it_is_the_mean_of_white_boxes_on_fresh_noise(encoder: str) -> None:
    x, y, ids = digits(4)
    victim = trained(encoder)
    cost = Cost(4)
    f = Scene(victim, x, y, image_keys(0, ids), "pixels").objective(cross_entropy, cost)
    score, gradient, _ = EOT(ATan(), draws=3)(f, x, None, 2)
    assert cost.rows() == 4 * [{"forwards": 3, "backwards": 3}]
    each = [WhiteBox(ATan())(f, x, None, salt) for salt in (6, 7, 8)]
    torch.testing.assert_close(gradient, torch.stack([g for _, g, _ in each]).mean(0), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(score.loss, torch.stack([s.loss for s, _, _ in each]).mean(0))
    assert torch.equal(score.fooled, each[0][0].fooled)
    assert torch.equal(gradient, each[0][1]) == (encoder == "direct")
    assert torch.equal(EOT(ATan(), draws=1)(f, x, None, 7)[1], each[1][1])


@pytest.mark.parametrize("options", [{"draws": 0}, {"radius": -0.1}, {"radius": 1.5}, {"radius": float("nan")}])
def test_wrong_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r"draws >= 1 and radius in \[0,1\]"):
        EOT(ATan(), **options)  # type: ignore[arg-type]
