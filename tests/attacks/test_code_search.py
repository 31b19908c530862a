"""Code search against brute force on networks that are linear in the code, and against the grid, the ball and FGSM."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from objectives import Plain
from small import adapted, digits, trained
from torch import Tensor

from spikeproof import parts
from spikeproof.attacks.code_search import CodeSearch
from spikeproof.attacks.fgsm import FGSM
from spikeproof.errors import UsageError
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.losses import margin
from spikeproof.rules.atan import ATan
from spikeproof.tensors import graft, image_keys, normal, uniform
from spikeproof.threats.l2 import L2
from spikeproof.threats.linf import Linf
from spikeproof.victims.scene import BUDGET_TOLERANCE, Cost, Scene

B, SIDE, T = 3, 6, 10
KEYS = image_keys(0, torch.arange(B))
LEVELS = (uniform(KEYS, (1, SIDE, SIDE)) * 256).long()
LEVELS[:, :, 0, :3] = 0
LEVELS[:, :, 1, :3] = 255
GRID = LEVELS.double() / 255
BETWEEN = uniform(KEYS, (1, SIDE, SIDE)).double()
WEIGHTS = normal(image_keys(1, torch.arange(B)), (T, 1, SIDE, SIDE)).double()
ESTIMATOR = WhiteBox(ATan())


def coded(name: str, loss: Any, **options: Any) -> Plain:
    """The loss of the code (B,T,*) of an encoder."""
    encoder = parts.build("encoders", {"name": name})

    def encode(x: Tensor) -> Tensor:
        return encoder(x, T, torch.zeros(len(x), dtype=torch.int64)).transpose(0, 1)

    return Plain(lambda x, salt: loss(encode(x), salt), KEYS, encode=encode, behind=Plain(loss, KEYS, **options))


def linear(z: Tensor, salt: int) -> Tensor:
    return (WEIGHTS[: len(z)] * z).flatten(1).sum(1)


def bent(z: Tensor, salt: int) -> Tensor:
    return linear(z, salt) - (z.sum(1) - 2).square().flatten(1).sum(1) + torch.sin(3 * linear(z, salt))


def by_force(f: Plain, x0: Tensor, eps: float) -> Tensor:
    """The largest linear loss in the ball, each pixel tried at its own value and at every level within eps of it."""
    best = (WEIGHTS * f.encode(x0)).sum(1)
    for level in range(256):
        x = torch.full_like(x0, level / 255)
        worth = (WEIGHTS * f.encode(x)).sum(1)
        best = torch.where(((x - x0).abs() <= eps + 1e-12) & (worth > best), worth, best)
    return best.flatten(1).sum(1)


@pytest.mark.parametrize("encoder", ["phase", "latency", "direct"])
@pytest.mark.parametrize("eps", [0.4 / 255, 1 / 255, 3.8 / 255, 8 / 255, 0.1, 1.0])
@pytest.mark.parametrize("x0", [GRID, BETWEEN], ids=["grid", "between"])
def test_one_full_step_finds_the_optimum_of_a_linear_network(encoder: str, eps: float, x0: Tensor) -> None:
    f = coded(encoder, linear)
    x = CodeSearch(steps=1, restarts=1, p=1.0)(f, x0, Linf(eps), ESTIMATOR, KEYS)
    torch.testing.assert_close(f.loss(x, 0), by_force(f, x0, eps), rtol=1e-12, atol=1e-12)
    assert (x - x0).abs().max() <= eps + 1e-12


@pytest.mark.parametrize("p", [1.0, 0.2])
def test_many_small_steps_find_it_too(p: float) -> None:
    f = coded("phase", linear)
    x = CodeSearch(steps=40, restarts=1, p=p)(f, GRID, Linf(8 / 255), ESTIMATOR, KEYS)
    torch.testing.assert_close(f.loss(x, 0), by_force(f, GRID, 8 / 255), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("encoder", ["phase", "latency", "direct"])
def test_every_point_is_on_the_grid_and_in_the_ball(encoder: str, dtype: torch.dtype) -> None:
    asked: list[Tensor] = []
    f, x0 = coded(encoder, lambda z, salt: bent(z.double(), salt).to(z)), GRID.to(dtype)
    encode = f._encode

    def spy(x: Tensor) -> Tensor:
        asked.append(x)
        assert encode is not None
        return encode(x)

    f._encode = spy
    x = CodeSearch(steps=30, restarts=2)(f, x0, Linf(8 / 255), ESTIMATOR, KEYS)
    points = [x, *(a for a in asked if a.shape == x0.shape)]
    assert len(points) > 60
    for point in points:
        levels = 255 * point.double()
        assert (levels - levels.round()).abs().max() < 1e-4
        assert (levels.round().long() - LEVELS).abs().max() <= 8
        assert point.min() >= 0
        assert point.max() <= 1
        assert Linf(8 / 255).distance(point, x0).max() <= 8 / 255 + BUDGET_TOLERANCE
    assert ((255 * x).round().long() - LEVELS).abs().max() == 8


def test_an_image_between_levels_moves_to_levels_inside_its_ball() -> None:
    x = CodeSearch(steps=20, p=0.3, restarts=2)(coded("phase", bent), BETWEEN, Linf(3 / 255), ESTIMATOR, KEYS)
    moved = x != BETWEEN
    assert moved.any()
    assert (255 * x - (255 * x).round()).abs()[moved].max() < 1e-9
    assert (x - BETWEEN).abs().max() <= 3 / 255 + 1e-12
    narrow = CodeSearch(steps=5, restarts=1)(coded("phase", bent), BETWEEN, Linf(0.001 / 255), ESTIMATOR, KEYS)
    assert (narrow == BETWEEN).double().mean() > 0.9  # hardly a level is that near


def test_for_direct_coding_a_full_step_is_fgsm() -> None:
    f, threat = coded("direct", linear), Linf(8 / 255)
    fgsm = FGSM()(f, GRID, threat, ESTIMATOR, KEYS)
    found = CodeSearch(steps=1, restarts=1)(f, GRID, threat, ESTIMATOR, KEYS)
    torch.testing.assert_close(found, fgsm, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("eps", "share"), [(1, 0.070), (2, 0.141), (4, 0.281), (6, 0.422), (8, 0.562), (16, 1.0)])
def test_pixels_whose_code_cannot_change_are_left_alone(eps: int, share: float) -> None:
    """The published shares of levels that can move a spike of a latency code of ten steps; all others stay."""
    x0 = (torch.arange(256).double() / 255).view(1, 1, 16, 16)
    best = normal(KEYS[:1], (T, 1, 16, 16)).double()
    moved = torch.zeros_like(x0, dtype=torch.bool)
    for sign in (1, -1):  # a pixel whose code can change one way only gains for one of the two
        f = coded("latency", lambda z, salt, sign=sign: (sign * best * z).flatten(1).sum(1))  # type: ignore[misc]
        moved |= CodeSearch(steps=1, restarts=1)(f, x0, Linf(eps / 255), ESTIMATOR, KEYS[:1]) != x0
    assert moved.double().mean().item() == pytest.approx(share, abs=0.0005)


def told(losses: Any) -> Plain:
    """Losses as they come, with the gradient of the linear loss."""
    return coded("direct", lambda z, salt: graft(next(losses).expand(len(z)), linear(z, salt)))


def walked(f: Plain, **options: Any) -> list[Tensor]:
    """The points of one climb on one image."""
    CodeSearch(restarts=1, **options)(f, GRID[:1], Linf(4 / 255), ESTIMATOR, KEYS[:1])
    assert f.behind is not None
    assert f.behind.salts == list(range(len(f.behind.points)))
    return [z[:, 0] for z in f.behind.points]


def test_a_refused_move_is_tried_smaller() -> None:
    """0.6 of the share after each refusal, always from the same point, down to one pixel."""
    start, *tried = walked(told(torch.tensor(-float(k)) for k in range(100)), steps=12)
    moved = [int((z != start).sum()) for z in tried]
    able = moved[0]  # a pixel at an end of the range may have nowhere to go
    assert able > 20
    assert moved == [min(max(round(SIDE * SIDE * 0.6**k), 1), able) for k in range(12)]
    assert len({tuple((z != start).flatten().tolist()) for z in tried[-3:]}) > 1  # and not the same pixel for ever


def test_a_taken_move_is_followed_by_a_larger_one() -> None:
    """1.3 times the share after each success, of the pixels that are not at their best yet."""
    points = walked(told(torch.tensor(float(k)) for k in range(100)), steps=12, p=0.1)
    moved = [int((a != b).sum()) for a, b in pairwise(points)]
    able = int((points[-1] != points[0]).sum())
    expected, left = [], able
    for k in range(12):
        expected.append(min(round(SIDE * SIDE * min(0.1 * 1.3**k, 1.0)), left))
        left -= expected[-1]
    assert moved == expected
    assert left == 0


def test_a_success_is_gone_on_from_at_whatever_loss() -> None:
    losses, asked = (torch.tensor(-float(k)) for k in range(100)), []

    def fooled(z: Tensor) -> Tensor:
        asked.append(z)
        return torch.full((len(z),), len(asked) == 2)

    f = coded("direct", lambda z, salt: graft(next(losses).expand(len(z)), linear(z, salt)), fooled=fooled)
    start, success, *tried = walked(f, steps=6, p=0.2)
    assert int((start != success).sum()) == round(0.2 * SIDE * SIDE)
    for z in tried:
        assert torch.equal(z[start != success], success[start != success])


def test_a_refused_move_leaves_the_gradient_of_where_it_started() -> None:
    """The slope turns round everywhere but at the start; every move from there goes where the first one went."""
    losses = (torch.tensor(-float(k)) for k in range(100))

    def turning(z: Tensor, salt: int) -> Tensor:
        return graft(next(losses).expand(len(z)), linear(z, salt) * (1 if salt == 0 else -1))

    start, first, *tried = walked(coded("direct", turning), steps=6)
    for z in tried:
        assert torch.equal(z[z != start], first[z != start])


def test_an_image_keeps_its_best_point_and_a_success() -> None:
    """The loss of what is returned is the highest met; what was fooled once stays, at whatever loss."""
    f = coded("phase", bent)
    x = CodeSearch(steps=25, restarts=2)(f, GRID, Linf(6 / 255), ESTIMATOR, KEYS)
    assert f.behind is not None
    assert f.behind.salts == list(range(2 * 26))
    met = torch.stack([bent(z, 0) for z in f.behind.points])
    assert torch.equal(bent(f.encode(x), 0), met.amax(0))
    assert (met.amax(0) > met[0]).all()
    once: list[Tensor] = []

    def fooled(z: Tensor) -> Tensor:
        once.append(z)
        return torch.full((len(z),), len(once) == 2)

    f = coded("phase", bent, fooled=fooled)
    x = CodeSearch(steps=25, restarts=1)(f, GRID, Linf(6 / 255), ESTIMATOR, KEYS)
    assert torch.equal(f.encode(x), once[1])


@pytest.mark.parametrize("encoder", ["phase", "latency", "direct"])
def test_on_a_trained_network(encoder: str) -> None:
    """Stronger than one step through the encoder, at the cost that it says, and judged as proposed."""
    x, y, ids = digits(24)
    x = (255 * x).round() / 255
    cost, threat = Cost(24), Linf(8 / 255)
    scene = Scene(adapted(encoder, steps=10 if encoder != "direct" else 3), x, y, image_keys(0, ids), "pixels")
    f = scene.objective(margin, cost)
    found = CodeSearch(steps=10, restarts=2)(f, x, threat, ESTIMATOR, scene.keys)
    assert cost.rows() == 24 * [{"forwards": 22, "backwards": 22}]
    scene.check_budget("code_search", found, threat)
    step = FGSM()(f, x, threat, ESTIMATOR, scene.keys)
    clean, one, many = (scene.judge(point, "test").margin.mean() for point in (x, step, found))
    assert many < min(one, clean) - 0.1
    assert (scene.judge(found, "test").margin <= scene.judge(x, "test").margin + 1e-5).all()
    levels = 255 * found
    assert (levels - levels.round()).abs().max() < 1e-4


def test_what_it_cannot_search_is_refused() -> None:
    x, y, ids = digits(2)
    f = coded("phase", linear)
    for threat in (L2(0.5), Linf(0.1, "encoded")):
        with pytest.raises(UsageError, match="the Linf threat on pixels for code search"):
            CodeSearch()(f, GRID, threat, ESTIMATOR, KEYS)
    poisson = Scene(trained("poisson"), x, y, image_keys(0, ids), "pixels").objective(margin)
    with pytest.raises(UsageError, match="a deterministic encoder"):
        CodeSearch()(poisson, x, Linf(0.1), ESTIMATOR, ids)
    mixing = coded("phase", linear)
    mixing._encode = lambda x: (x - x.flatten(1).mean(1).view(-1, *[1] * (x.dim() - 1))).unsqueeze(1)
    with pytest.raises(UsageError, match="each pixel by itself"):
        CodeSearch()(mixing, GRID, Linf(0.1), ESTIMATOR, KEYS)
    for options in ({"steps": 0}, {"restarts": 0}, {"p": 0.0}, {"p": 1.1}, {"levels": 0}):
        with pytest.raises(UsageError, match="steps and restarts >= 1, levels in 1"):
            CodeSearch(**options)  # type: ignore[arg-type]
