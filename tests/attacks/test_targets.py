"""APGD-T and APGD in l1: runs towards each class, a plain twin step for step, and affine classifiers' closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from affine import Affine, images, objective, scene
from oracles import ascent
from oracles.shortest import affine_distance
from torch import Tensor

from spikeproof.attacks.apgd import APGD
from spikeproof.attacks.fgsm import FGSM
from spikeproof.attacks.pgd import PGD
from spikeproof.attacks.square import Square
from spikeproof.errors import UsageError
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.losses import dlr, margin
from spikeproof.rules.atan import ATan
from spikeproof.tensors import image_keys, normal, uniform
from spikeproof.threats.l1 import L1
from spikeproof.threats.l2 import L2
from spikeproof.threats.linf import Linf
from spikeproof.types import Objective, Score

ESTIMATOR = WhiteBox(ATan())
B, D, EPS = 20, 12, 0.8
KEYS = image_keys(0, torch.arange(B))


class Script:
    """Losses and slopes written down beforehand, whatever the point, and the points it was asked at."""

    final = False

    def __init__(self, calls: int) -> None:
        chance = torch.linspace(0.3, 0.95, B)[:, None]
        rises = uniform(image_keys(7, torch.arange(B)), (calls,)) < chance
        self.losses = torch.where(rises, 1.0, -3.0).cumsum(1).double()
        self.slopes = normal(image_keys(8, torch.arange(B)), (calls, D)).double()
        # Some slopes stay as they were, so that points become sparse.
        for call in range(1, calls):
            if call % 7:
                self.slopes[:, call] = self.slopes[:, call - 1]
        self.start = (1.4 * uniform(KEYS, (D,)).double() - 0.2).clamp(0, 1)
        self.points: list[Tensor] = []

    def __call__(self, x: Tensor, rule: Any, salt: int) -> Score:
        call = len(self.points)
        assert salt == call
        self.points.append(x.detach().clone())
        slope = (self.slopes[:, call] * x).sum(1)
        return Score(self.losses[:, call] + (slope - slope.detach()), torch.zeros(B, dtype=torch.bool))

    def of(self, image: int) -> Any:
        """The same for one image's twin."""
        lines = iter(zip(self.losses[image].tolist(), self.slopes[image].numpy(), strict=True))
        return lambda x: next(lines)


@pytest.mark.parametrize("steps", [1, 3, 10, 50, 100])
def test_apgd_in_l1_follows_a_script_as_its_twin(steps: int) -> None:
    threat, balls = L1(EPS), 3 if steps > 3 else 1
    f = Script(steps + balls)
    best = APGD(steps=steps)(f, f.start, threat, ESTIMATOR, KEYS)  # type: ignore[arg-type]
    assert len(f.points) == steps + balls
    sparser = 0
    for i in range(B):
        expected = ascent.apgd_l1(f.of(i), f.points[0][i].numpy(), f.start[i].numpy(), EPS, steps)
        found = torch.stack([x[i] for x in f.points]).numpy()
        np.testing.assert_allclose(found, np.concatenate(expected), rtol=0, atol=1e-9)
        # Only what was met in the last ball is a candidate.
        last = len(f.points) - len(expected[-1])
        assert torch.equal(best[i], f.points[last + int(f.losses[i, last : len(f.points)].argmax())][i])
        moved = [np.count_nonzero(x - f.start[i].numpy()) for x in found]
        sparser += min(moved) < moved[0]
    if steps > 3:
        assert sparser > B / 2


def optimum(body: Affine, x: Tensor, y: Tensor, norm: str) -> Tensor:
    """Exact distance (B,) to the nearest other class."""
    z = body.classify(x[None], None)  # type: ignore[arg-type]
    found = []
    for i, own in enumerate(y.tolist()):
        others = [t for t in range(body.classes) if t != own]
        ways = [(body.w[t] - body.w[own], (z[i, t] - z[i, own]).item()) for t in others]
        found.append(min(affine_distance(x[i].flatten().tolist(), w.tolist(), gap, norm) for w, gap in ways))
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("loss", [dlr, margin])
@pytest.mark.parametrize("kind", [Linf, L2, L1])
@pytest.mark.parametrize("inside", [True, False])
def test_targeted_apgd_breaks_exactly_what_can_be_broken(loss: Any, kind: Any, inside: bool) -> None:
    """Every image whose exact distance is within eps, and no other; those within 3 % of eps aside."""
    if kind is L2 and not inside:
        pytest.skip("scaling and clipping is not the nearest point where both bind")
    body, x0 = Affine(5), images(40, inside=inside)
    where = scene(body, x0)
    distance = optimum(body, x0, where.y, kind.norm)
    threat = kind(distance.median().item() * 1.01)
    x = APGD(steps=40, targets=9)(objective(where, loss), x0, threat, ESTIMATOR, where.keys)
    where.check_budget("APGD-T", x, threat)
    clear = (distance / threat.eps - 1).abs() > 0.03
    assert clear.sum() > 32
    assert torch.equal((where.judge(x, "test").margin < 0)[clear], (distance < threat.eps)[clear])


@pytest.mark.parametrize(
    ("attack", "threat"),
    [
        (FGSM(), L1(0.25, share=0.0)),
        (PGD(random_start=False), L1(0.25, share=0.0)),
        (PGD(steps=100, keep="last"), L1(0.25, share=0.0)),
        (APGD(), L1(0.25)),
        (APGD(restarts=2), L1(0.25)),
        (FGSM(), L2(0.2)),
        (APGD(), L2(0.2)),
        (FGSM(), Linf(0.1)),
        (APGD(), Linf(0.1)),
        (Square(queries=1500), Linf(0.1)),
    ],
    ids=repr,
)
def test_two_classes_gain_eps_times_the_dual_norm(attack: Any, threat: Any) -> None:
    """Where the box leaves room: eps |w|_1, eps |w|_2, eps |w|_inf."""
    body, x0 = Affine(2), images(6, inside=True)
    where = scene(body, x0)
    x = attack(objective(where, margin), x0, threat, ESTIMATOR, where.keys)
    w = body.w[1] - body.w[0]
    dual = {"Linf": w.abs().sum(), "L2": w.norm(), "L1": w.abs().max()}[threat.norm]
    gain = where.judge(x0, "test").margin - where.judge(x, "test").margin
    torch.testing.assert_close(gain, (threat.eps * dual).expand(6), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("eps", [0.5, 1.5, 4.0])
def test_apgd_fills_the_steepest_coordinates_of_the_box_in_l1(eps: float) -> None:
    """The exact optimum: each coordinate to its end of the box, steepest first, until the budget is spent."""
    body, x0 = Affine(2), images(6, inside=False)
    where, w = scene(body, x0), Affine(2).w[1] - Affine(2).w[0]
    x = APGD()(objective(where, margin), x0, L1(eps), ESTIMATOR, where.keys)
    gain = where.judge(x0, "test").margin - where.judge(x, "test").margin
    for i, own in enumerate(where.y.tolist()):
        towards, left, best = (w if own == 0 else -w).tolist(), eps, 0.0
        for v, p in sorted(zip(towards, x0[i].flatten().tolist(), strict=True), key=lambda pair: -abs(pair[0])):
            way = min(left, 1 - p if v > 0 else p)
            left, best = left - way, best + abs(v) * way
        assert best * 0.98 <= gain[i].item() <= best + 1e-9


class Aimed:
    """Three classes; which target each call was for, and its salt. Fooled in the third call alone, at a low loss."""

    final = False
    classes = 3

    def __init__(self, calls: list[tuple[int, int]], rank: int = 0) -> None:
        self.calls, self.rank = calls, rank
        self.keys = KEYS

    def __call__(self, x: Tensor, rule: Any, salt: int) -> Score:
        self.calls.append((self.rank, salt))
        first = len(self.calls) == 3
        return Score(x.sum(1) + self.rank, torch.full((len(x),), first))

    def aimed(self, rank: int) -> Objective:
        return Aimed(self.calls, rank)  # type: ignore[return-value]


@pytest.mark.parametrize("threat", [Linf(0.1), L1(0.5)])
@pytest.mark.parametrize(("targets", "met"), [(0, [0]), (1, [1]), (2, [1, 2]), (9, [1, 2])])
def test_each_target_is_run_with_salts_of_its_own(threat: Any, targets: int, met: list[int]) -> None:
    calls: list[tuple[int, int]] = []
    x0 = 0.3 + 0.4 * uniform(KEYS, (D,)).double()
    APGD(steps=10, restarts=2, targets=targets)(Aimed(calls), x0, threat, ESTIMATOR, KEYS)  # type: ignore[arg-type]
    each = 2 * (10 + (3 if threat.norm == "L1" else 1))
    assert [rank for rank, _ in calls] == [rank for rank in met for _ in range(each)]
    salts = [salt for _, salt in calls]
    assert len(set(salts)) == len(salts)


def test_a_fooled_point_is_not_lost_to_the_next_target() -> None:
    x0 = 0.3 + 0.4 * uniform(KEYS, (D,)).double()
    points: list[Tensor] = []

    class Kept(Aimed):
        def __call__(self, x: Tensor, rule: Any, salt: int) -> Score:
            points.append(x.detach().clone())
            return super().__call__(x, rule, salt)

        def aimed(self, rank: int) -> Objective:
            return Kept(self.calls, rank)  # type: ignore[return-value]

    x = APGD(steps=10, targets=2)(Kept([]), x0, Linf(0.1), ESTIMATOR, KEYS)  # type: ignore[arg-type]
    assert torch.equal(x, points[2])


def test_wrong_targets_are_refused() -> None:
    with pytest.raises(UsageError, match="targets >= 0"):
        APGD(targets=-1)
