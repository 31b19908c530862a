"""APGD, SA-PGD, MI-FGSM and random corners: against plain twins, on linear models, and where the gradient vanishes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from objectives import unending
from oracles import ascent
from torch import Tensor

from spikeproof.attacks.apgd import APGD
from spikeproof.attacks.mi_fgsm import MIFGSM
from spikeproof.attacks.random_corners import RandomCorners
from spikeproof.attacks.sa_pgd import SAPGD
from spikeproof.errors import UsageError
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.losses import cross_entropy, dlr, margin
from spikeproof.rules.atan import ATan
from spikeproof.tensors import image_keys, normal, uniform
from spikeproof.threats.l1 import L1
from spikeproof.threats.l2 import L2
from spikeproof.threats.linf import Linf
from spikeproof.types import Score

B, D, EPS = 10, 8, 0.1
ESTIMATOR = WhiteBox(ATan())
KEYS = image_keys(0, torch.arange(B))
X0 = (1.2 * uniform(image_keys(1, torch.arange(B)), (D,)).double() - 0.1).clamp(0, 1)  # some at the ends of the range
PULL, WAVE, PHASE = (normal(image_keys(seed, torch.arange(1)), (D,))[0].double() for seed in (2, 3, 4))
BOWL = normal(image_keys(5, torch.arange(1)), (D, D))[0].double()


class Recorder:
    """A bent, wavy objective in float64 that keeps every point it was asked at, and how."""

    final = False

    def __init__(self, waves: float = 40.0, height: float = 1 / 30) -> None:
        self.waves, self.height = waves, height
        self.points: list[Tensor] = []
        self.losses: list[Tensor] = []
        self.salts: list[int] = []
        self.differentiated: list[bool] = []

    def __call__(self, x: Tensor, rule: Any, salt: int) -> Score:
        loss = x @ PULL + (self.waves * x * WAVE + PHASE).sin().sum(1) * self.height - (x @ BOWL).square().sum(1) / 90
        self.points.append(x.detach().clone())
        self.losses.append(loss.detach())
        self.salts.append(salt)
        self.differentiated.append(x.requires_grad)
        return Score(loss, torch.zeros(len(x), dtype=torch.bool))


def wavy(x: ascent.Vector, waves: float = 40.0, height: float = 1 / 30) -> tuple[float, ascent.Vector]:
    """The recorder's objective and its gradient by hand, of one image."""
    pull, wave, phase, bowl = (np.asarray(a, dtype=np.float64) for a in (PULL, WAVE, PHASE, BOWL))
    value = float(x @ pull + height * np.sin(waves * x * wave + phase).sum() - np.sum((x @ bowl) ** 2) / 90)
    return value, pull + height * np.cos(waves * x * wave + phase) * waves * wave - bowl @ (x @ bowl) / 45


def same_way(points: list[Tensor], image: int, expected: list[ascent.Vector], within: float = 1e-6) -> None:
    """Point for point. What swings across a crest grows its rounding; the smallest step is a hundred times this."""
    found = torch.stack([x[image] for x in points]).numpy()
    np.testing.assert_allclose(found, np.stack(expected), rtol=0, atol=within)


class Script:
    """Losses and slopes written down beforehand, whatever the point: every way an attack can go, and nothing chaotic.

    Losses are whole numbers: each image rises by 1 with a chance of its own, and else stays or falls far.
    """

    final = False

    images = 40

    def __init__(self, calls: int) -> None:
        keys = image_keys(7, torch.arange(self.images))
        chance = torch.linspace(0.55, 0.97, self.images)[:, None]
        fall = torch.tensor([0.0, -3.0, -15.0, -40.0]).repeat(self.images // 4)[:, None]
        self.losses = torch.where(uniform(keys, (calls,)) < chance, 1.0, fall).cumsum(1).double()
        self.slopes = normal(keys, (calls, D)).double()
        self.start = 0.2 + 0.6 * uniform(keys, (D,)).double()
        self.keys = keys
        self.points: list[Tensor] = []

    def __call__(self, x: Tensor, rule: Any, salt: int) -> Score:
        call = len(self.points) if x.requires_grad else -1  # what is asked without a gradient is no step
        if x.requires_grad:
            self.points.append(x.detach().clone())
        slope = (self.slopes[:, call] * x).sum(1)
        return Score(self.losses[:, call] + (slope - slope.detach()), torch.zeros(self.images, dtype=torch.bool))

    def of(self, image: int) -> Any:
        """The same for one image's twin."""
        lines = iter(zip(self.losses[image].tolist(), self.slopes[image].numpy(), strict=True))
        return lambda x: next(lines)


@pytest.mark.parametrize("threat", [Linf(EPS), L2(2 * EPS)], ids=["Linf", "L2"])
@pytest.mark.parametrize("steps", [10, 50, 100])
def test_apgd_follows_a_script_as_its_twin(threat: Any, steps: int) -> None:
    f = Script(steps + 1)
    APGD(steps=steps)(f, f.start, threat, ESTIMATOR, f.keys)
    for i in range(f.images):
        start, clean = f.points[0][i].numpy(), f.start[i].numpy()
        points, _ = ascent.apgd(f.of(i), start, clean, threat.eps, steps, threat.norm)
        same_way(f.points, i, points, within=1e-10)


@pytest.mark.parametrize("steps", [10, 50, 100])
def test_sa_pgd_follows_a_script_as_its_twin(steps: int) -> None:
    f = Script(steps + 1)
    SAPGD(steps=steps)(f, f.start, Linf(EPS), ESTIMATOR, f.keys)
    for i in range(0, f.images, 7):
        expected = ascent.sa_pgd(f.of(i), f.points[0][i].numpy(), f.start[i].numpy(), EPS, steps)
        same_way(f.points, i, expected[:-1], within=1e-10)


@pytest.mark.parametrize("scale", [2.0**-80, 2.0**-110])
@pytest.mark.parametrize(
    ("make", "threat"),
    [(APGD, Linf(EPS)), (APGD, L2(EPS)), (MIFGSM, Linf(EPS)), (MIFGSM, L2(EPS)), (SAPGD, Linf(EPS))],
)
def test_an_attack_goes_as_far_on_a_small_loss(make: Any, threat: Any, scale: float) -> None:
    """float32, as networks are."""
    x0 = X0.float()

    def end(size: float) -> Tensor:
        @unending
        def f(x: Tensor, rule: Any, salt: int) -> Score:
            return Score(size * (x @ PULL.float()), torch.zeros(B, dtype=torch.bool))

        return torch.as_tensor(make(steps=10)(f, x0, threat, ESTIMATOR, KEYS))

    torch.testing.assert_close(end(scale), end(1.0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("steps", [10, 20, 40])
def test_sa_pgd_is_its_twin_step_for_step(steps: int) -> None:
    f = Recorder(12.0, 1 / 6)
    SAPGD(steps=steps)(f, X0, Linf(EPS), ESTIMATOR, KEYS)
    assert len(f.points) == steps + 1
    for i in range(B):
        expected = ascent.sa_pgd(lambda x: wavy(x, 12.0, 1 / 6), f.points[0][i].numpy(), X0[i].numpy(), EPS, steps)
        same_way(f.points, i, expected)


@pytest.mark.parametrize("decay", [0.0, 0.6, 1.0])
def test_mi_fgsm_is_its_twin_step_for_step(decay: float) -> None:
    f, steps = Recorder(), 12
    MIFGSM(steps=steps, decay=decay)(f, X0, Linf(EPS), ESTIMATOR, KEYS)
    assert torch.equal(f.points[0], X0)
    for i in range(B):
        expected = ascent.mi_fgsm(wavy, X0[i].numpy(), EPS, steps, decay, EPS / steps)
        same_way(f.points, i, expected)


@pytest.mark.parametrize("threat", [Linf(0.03), L2(2 * EPS)], ids=["Linf", "L2"])
@pytest.mark.parametrize("steps", [1, 10, 20, 100])
def test_apgd_is_its_twin_step_for_step(threat: Any, steps: int) -> None:
    f = Recorder()
    best = APGD(steps=steps)(f, X0, threat, ESTIMATOR, KEYS)
    losses = torch.stack(f.losses)
    times = set()
    for i in range(B):
        points, sizes = ascent.apgd(wavy, f.points[0][i].numpy(), X0[i].numpy(), threat.eps, steps, threat.norm)
        same_way(f.points, i, points)
        assert torch.equal(best[i], f.points[int(losses[:, i].argmax())][i])
        halved = np.log2(np.array([2 * threat.eps, *sizes[:-1]]) / sizes)
        assert halved.sum() <= (8 if steps == 100 else steps)
        times.add(tuple(halved.nonzero()[0]))
    if steps == 100:
        assert len(times) > 1  # the images halved at other times, each at its own


@pytest.mark.parametrize("threat", [Linf(EPS), L2(2 * EPS)], ids=["Linf", "L2"])
def test_apgd_starts_on_the_surface_of_the_ball(threat: Any) -> None:
    inside = 0.4 + 0.2 * uniform(KEYS, (3, 4)).double()
    first = []

    @unending
    def f(x: Tensor, rule: Any, salt: int) -> Score:
        first.append(x.detach().clone())
        return Score(x.flatten(1).sum(1), torch.zeros(B, dtype=torch.bool))

    APGD(steps=1, restarts=2)(f, inside, threat, ESTIMATOR, KEYS)
    for start in (first[0], first[2]):
        torch.testing.assert_close(threat.distance(start, inside), torch.full((B,), threat.eps).double())
        assert ((start - inside).abs() < 0.9 * threat.eps).any(1).any()
    assert not torch.equal(first[0], first[2])


@pytest.mark.parametrize(("attack", "calls"), [(APGD(steps=30, restarts=3), 31), (SAPGD(steps=30, restarts=3), 31)])
def test_calls_and_restarts(attack: Any, calls: int) -> None:
    """Every call has a salt of its own; the best of all restarts is returned, for each image."""
    f = Recorder()
    x = attack(f, X0, Linf(EPS), ESTIMATOR, KEYS)
    assert len(f.salts) == 3 * calls == len(set(f.salts))
    losses = torch.stack(f.losses)
    torch.testing.assert_close(Recorder()(x, None, 0).loss, losses.amax(0), rtol=1e-12, atol=1e-12)
    assert (losses[:calls].amax(0) < losses.amax(0)).any()
    single = type(attack)(steps=30)(Recorder(), X0, Linf(EPS), ESTIMATOR, KEYS)
    torch.testing.assert_close(Recorder()(single, None, 0).loss, losses[:calls].amax(0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("attack", [APGD(steps=20), SAPGD(steps=20), MIFGSM(), RandomCorners(20)], ids=repr)
def test_a_success_is_never_given_up_for_a_higher_loss(attack: Any) -> None:
    """Broken where the first coordinate is below its clean value, while the loss rises with it."""
    seen = torch.zeros(B, dtype=torch.bool)
    inside = 0.4 + 0.2 * uniform(KEYS, (D,)).double()

    @unending
    def f(x: Tensor, rule: Any, salt: int) -> Score:
        fooled = x.detach()[:, 0] <= inside[:, 0]
        seen.logical_or_(fooled)
        return Score(x.sum(1), fooled)

    x = attack(f, inside, Linf(EPS), ESTIMATOR, KEYS)
    assert seen.any()
    assert torch.equal(x[:, 0] <= inside[:, 0], seen)


def logits(classes: int) -> Tensor:
    """Weights (classes, D), every third column of the first two rows the same: differences that are exactly zero."""
    w = normal(image_keys(6, torch.arange(1)), (classes, D))[0].double()
    w[1, ::3] = w[0, ::3]
    return w


def linear(w: Tensor, loss: Any) -> Any:
    y = torch.zeros(B, dtype=torch.int64)

    @unending
    def f(x: Tensor, rule: Any, salt: int) -> Score:
        z = x @ w.t()
        return Score(loss(z, y), torch.zeros(B, dtype=torch.bool))

    return f


ITERATIVE = [APGD(steps=20), APGD(), SAPGD(), MIFGSM()]


@pytest.mark.parametrize("attack", ITERATIVE, ids=repr)
@pytest.mark.parametrize("loss", [cross_entropy, margin])
def test_two_classes_end_at_the_corner(attack: Any, loss: Any) -> None:
    w = logits(2)
    direction = w[1] - w[0]
    live = direction != 0
    x = attack(linear(w, loss), X0, Linf(EPS), ESTIMATOR, KEYS)
    corner = (X0 + EPS * direction.sign()).clamp(0, 1)
    assert 0 < live.sum() < D
    torch.testing.assert_close(x[:, live], corner[:, live], rtol=0, atol=1e-12)


@pytest.mark.parametrize("loss", [cross_entropy, dlr, margin])
@pytest.mark.parametrize("attack", [APGD(), SAPGD()], ids=repr)
def test_three_classes_end_at_the_best_of_all_corners(attack: Any, loss: Any) -> None:
    """The loss at each of the 2^D corners, by hand; clean images of class 0 with room on every side."""
    w = logits(3) + 2 * torch.tensor([[1.0], [0.0], [0.0]]).double()
    inside = 0.3 + 0.4 * uniform(KEYS, (D,)).double()
    f = linear(w, loss)
    corners = torch.tensor(list(itertools.product((-EPS, EPS), repeat=D)), dtype=torch.float64)
    y = torch.zeros(len(corners), dtype=torch.int64)
    optimum = torch.stack([loss((image + corners) @ w.t(), y).amax() for image in inside])
    x = attack(f, inside, Linf(EPS), ESTIMATOR, KEYS)
    torch.testing.assert_close(f(x, None, 0).loss, optimum, rtol=1e-12, atol=0)


def test_apgd_ends_at_the_l2_optimum() -> None:
    """x0 + eps (w1 - w0) / |w1 - w0|, where the box leaves room."""
    w, threat = logits(2), L2(0.2)
    inside = 0.3 + 0.4 * uniform(KEYS, (D,)).double()
    direction = w[1] - w[0]
    x = APGD()(linear(w, margin), inside, threat, ESTIMATOR, KEYS)
    torch.testing.assert_close(x, inside + threat.eps * direction / direction.norm(), rtol=0, atol=1e-9)


@unending
def flat(x: Tensor, rule: Any, salt: int) -> Score:
    """No gradient in the first image, a slope in the others."""
    live = torch.arange(len(x)) > 0
    return Score((x.sum(1) * live).to(x.dtype), torch.zeros(len(x), dtype=torch.bool))


@pytest.mark.parametrize("threat", [Linf(EPS), L2(EPS)], ids=["Linf", "L2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mi_fgsm_does_not_move_without_a_gradient(threat: Any, dtype: torch.dtype) -> None:
    x0 = X0.to(dtype)
    x = MIFGSM()(flat, x0, threat, ESTIMATOR, KEYS)
    assert torch.equal(x[0], x0[0])
    assert (threat.distance(x, x0)[1:] > 0.9 * EPS).sum() >= 5  # the others do, as far as the box lets them
    assert torch.isfinite(x).all()


def test_sa_pgd_stays_at_its_start_without_a_gradient() -> None:
    seen: list[Tensor] = []

    @unending
    def f(x: Tensor, rule: Any, salt: int) -> Score:
        seen.append(x.detach().clone())
        return flat(x, rule, salt)

    x = SAPGD(steps=10)(f, X0, Linf(EPS), ESTIMATOR, KEYS)
    assert torch.equal(x[0], seen[0][0])
    assert all(torch.equal(point[0], seen[0][0]) and torch.isfinite(point).all() for point in seen)


@pytest.mark.parametrize("draws", [1, 7, 40])
def test_random_corners_are_corners_and_the_best_is_kept(draws: int) -> None:
    """One forward a draw, without a gradient; every coordinate at +-eps or at an end of the range."""
    f = Recorder()
    x = RandomCorners(draws)(f, X0, Linf(EPS), ESTIMATOR, KEYS)
    assert len(f.points) == draws == len(set(f.salts))
    assert not any(f.differentiated)
    low, high = (X0 - EPS).clamp(0, 1), (X0 + EPS).clamp(0, 1)
    for point in f.points:
        assert torch.minimum((point - low).abs(), (point - high).abs()).max() < 1e-15
    assert len({tuple(point.flatten().tolist()) for point in f.points}) == draws
    losses = torch.stack(f.losses)
    torch.testing.assert_close(Recorder()(x, None, 0).loss, losses.amax(0), rtol=1e-12, atol=1e-12)
    ups = torch.stack([point == high for point in f.points]).double().mean()
    assert abs(ups.item() - 0.5) < 3 / (draws * B * D) ** 0.5


def test_random_corners_in_l2_lie_on_the_sphere() -> None:
    inside = 0.4 + 0.2 * uniform(KEYS, (D,)).double()
    f = Recorder()
    RandomCorners(5)(f, inside, L2(EPS), ESTIMATOR, KEYS)
    for point in f.points:
        torch.testing.assert_close((point - inside).norm(dim=1), torch.full_like(inside[:, 0], EPS))
    signs = torch.stack([point > inside for point in f.points]).double().mean()
    assert abs(signs.item() - 0.5) < 3 / (5 * B * D) ** 0.5


def test_random_corners_in_l1_spend_the_budget_on_few_pixels() -> None:
    inside = 0.4 + 0.2 * uniform(KEYS, (D,)).double()
    f = Recorder()
    RandomCorners(5)(f, inside, L1(EPS), ESTIMATOR, KEYS)
    for point in f.points:
        moved = point - inside
        torch.testing.assert_close(moved.abs().sum(1), torch.full_like(inside[:, 0], EPS))
        assert bool(((moved != 0).sum(1) <= max(1, D // 5)).all())


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (APGD, {"steps": 0}, "steps >= 1"),
        (APGD, {"restarts": 0}, "restarts >= 1"),
        (SAPGD, {"steps": 0}, "steps >= 1"),
        (SAPGD, {"restarts": -1}, "restarts >= 1"),
        (MIFGSM, {"steps": 0}, "steps >= 1"),
        (MIFGSM, {"decay": -0.5}, "decay >= 0"),
        (RandomCorners, {"draws": 0}, "draws >= 1"),
    ],
)
def test_wrong_options_are_refused(make: Any, options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(**options)


def test_sa_pgd_refuses_l2() -> None:
    with pytest.raises(UsageError, match=r"Linf threat for SA-PGD, got L2.*apgd"):
        SAPGD()(Recorder(), X0, L2(EPS), ESTIMATOR, KEYS)
