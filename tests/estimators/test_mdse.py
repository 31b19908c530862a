"""MDSE: the coefficients against scalar loops, and what they are there for."""

from __future__ import annotations

import math

import pytest
import torch
from objectives import Plain
from small import digits, trained
from torch import Tensor

from spikeproof import parts
from spikeproof.errors import UsageError
from spikeproof.estimators.mdse import MDSE
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.losses import cross_entropy
from spikeproof.rules.atan import ATan
from spikeproof.rules.sigmoid import Sigmoid
from spikeproof.rules.straight_through import StraightThrough
from spikeproof.rules.triangle import Triangle
from spikeproof.tensors import graft, image_keys, normal, uniform
from spikeproof.types import Rule
from spikeproof.victims.scene import Cost, Scene

B, D = 3, 5
KEYS = image_keys(0, torch.arange(B))
NAMES = ("ATan", "Triangle", "Sigmoid", "StraightThrough")
SLOPES = dict(zip(NAMES, normal(image_keys(1, torch.arange(4)), (B, D)).double(), strict=True))


def biased(x: Tensor, salt: int, rule: Rule) -> Tensor:
    """One value under every rule, and a gradient of each rule's own, which bends with x."""
    slope = SLOPES[type(rule).__name__]
    return graft(x.sum(1), (slope * (x.square() + 0.3 * x)).sum(1))


def loops(points: list[Tensor], rho: float, lam: float) -> list[list[list[float]]]:
    """The mixed gradient at each point, one image and one coordinate at a time."""
    a = [[[1.0] * D for _ in range(B)] for _ in NAMES]
    before = [[[0.0] * D for _ in range(B)] for _ in NAMES]
    out = []
    for x in points:
        g = []
        for name in NAMES:
            raw = [[float(SLOPES[name][b, j]) * (2 * float(x[b, j]) + 0.3) for j in range(D)] for b in range(B)]
            g.append([[v / (sum(abs(w) for w in row) / D) for v in row] for row in raw])
        mixed = [[0.0] * D for _ in range(B)]
        for b in range(B):
            for j in range(D):
                total = sum(a[m][b][j] * before[m][b][j] for m in range(4))
                rise = sum(g[m][b][j] for m in range(4))
                for m in range(4):
                    a[m][b][j] += rho * rise * before[m][b][j] / math.cosh(lam * total) ** 2
                mixed[b][j] = sum(a[m][b][j] * g[m][b][j] for m in range(4))
        before = g
        out.append(mixed)
    return out


@pytest.mark.parametrize(("rho", "lam"), [(0.1, 1.0), (0.5, 0.2), (0.0, 1.0), (2.0, 5.0)])
def test_against_scalar_loops(rho: float, lam: float) -> None:
    points = [uniform(image_keys(k, torch.arange(B)), (D,)).double() for k in range(2, 8)]
    part = MDSE(ATan(), rho=rho, lam=lam)
    f, carry = Plain(biased, KEYS, by_rule=True), part.init(points[0])
    for salt, (x, expected) in enumerate(zip(points, loops(points, rho, lam), strict=True)):
        score, gradient, carry = part(f, x, carry, salt)
        torch.testing.assert_close(gradient, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(score.loss, x.sum(1))
    assert f.salts == [salt for salt in range(6) for _ in NAMES]  # the members of a step meet the same noise


def test_a_member_that_contradicts_the_slope_that_is_met_loses_its_say() -> None:
    """Three members know the slope, one turns it round at the first coordinate; of the others there is little to learn.

    There, the met slope is 2 in units of the mean, and a grows by rho 2 g / cosh(2)^2 at the first update.
    """
    truth = SLOPES["ATan"].sign()
    turned = torch.where(torch.arange(D) < 1, -truth, truth)

    def loss(x: Tensor, salt: int, rule: Rule) -> Tensor:
        return (x * (turned if isinstance(rule, StraightThrough) else truth)).sum(1)

    part, x = MDSE(ATan(), rho=0.1), torch.full((B, D), 0.5, dtype=torch.float64)
    f, carry, say = Plain(loss, KEYS, by_rule=True), part.init(x), []
    for salt in range(30):
        _, gradient, carry = part(f, x, carry, salt)
        say.append(carry[0])
        assert torch.equal(gradient.sign(), truth)
    first, second, last = say[0], say[1], say[-1]
    assert (first == 1).all()
    step = 0.2 / math.cosh(2.0) ** 2
    torch.testing.assert_close(second[:, :, 0] - 1, torch.tensor([[step]] * 3 + [[-step]]).double().expand(4, B))
    assert (last[:3, :, 0] > second[:3, :, 0]).all()
    assert (last[3, :, 0] < second[3, :, 0]).all()
    assert (last[:, :, 1:] - 1).abs().max() < 0.1 * (last[:, :, 0] - 1).abs().min()


def test_zero_gradients_and_huge_sums_stay_finite() -> None:
    def loss(x: Tensor, salt: int, rule: Rule) -> Tensor:
        return (x * SLOPES["ATan"] * torch.tensor([[0.0], [1e-40], [1e30]], dtype=torch.float64)).sum(1)

    x = torch.full((B, D), 0.5, dtype=torch.float64)
    part = MDSE(ATan(), rho=1e3, lam=50.0)
    carry = part.init(x)
    for salt in range(5):
        _, gradient, carry = part(Plain(loss, KEYS, by_rule=True), x, carry, salt)
        assert torch.isfinite(gradient).all()
        assert not gradient[0].any()


def test_members_are_made_by_name_and_counted_once() -> None:
    assert MDSE(ATan()).members() == [ATan(), Triangle(), Sigmoid(), StraightThrough()]
    assert MDSE(Sigmoid(), others=("atan", "sigmoid")).members() == [Sigmoid(), ATan()]
    assert MDSE(Sigmoid(alpha=2.0), others=("sigmoid",)).members() == [Sigmoid(alpha=2.0), Sigmoid()]
    with pytest.raises(UsageError, match=r"a rule in MDSE's others.*'wavelet'.*valid: atan, bptr"):
        MDSE(ATan(), others=("wavelet",))
    for options in ({"rho": -1.0}, {"lam": float("nan")}, {"lam": float("inf")}):
        with pytest.raises(UsageError, match="rho and lam >= 0"):
            MDSE(ATan(), **options)  # type: ignore[arg-type]


def test_a_configuration_names_its_members() -> None:
    spec = {"name": "mdse", "others": ["bptr", "hart"], "rho": 0.2}
    part = parts.build("estimators", spec, rule=ATan())
    assert part == MDSE(ATan(), others=("bptr", "hart"), rho=0.2)
    assert list(parts.resolve("estimators", spec)["others"]) == ["bptr", "hart"]
    assert parts.build("estimators", parts.resolve("estimators", spec), rule=ATan()) == part


def test_the_first_mix_is_the_sum_of_scaled_white_boxes() -> None:
    x, y, ids = digits(4)
    cost = Cost(4)
    f = Scene(trained("phase"), x, y, image_keys(0, ids), "pixels").objective(cross_entropy, cost)
    part = MDSE(ATan())
    _, gradient, _ = part(f, x, part.init(x), 1)
    assert cost.rows() == 4 * [{"forwards": 4, "backwards": 4}]
    each = [WhiteBox(rule)(f, x, None, 1)[1] for rule in part.members()]
    expected = sum(g / g.abs().mean((1, 2, 3), keepdim=True) for g in each)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)
