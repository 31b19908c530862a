"""FAB: on affine classifiers the closed-form distance, in every norm; on bent ones its plain recurrence."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from affine import Affine, images, objective, scene
from oracles.shortest import affine_distance
from torch import Tensor

from spikeproof.attacks._hyperplane import onto
from spikeproof.attacks.fab import FAB
from spikeproof.errors import UsageError
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.losses import margin
from spikeproof.rules.atan import ATan
from spikeproof.tensors import image_keys, normal
from spikeproof.threats.l1 import L1
from spikeproof.threats.l2 import L2
from spikeproof.threats.linf import Linf
from spikeproof.types import Score

ESTIMATOR = WhiteBox(ATan())
WIDE = {"Linf": Linf(1.0), "L2": L2(16.0), "L1": L1(16.0)}
"""Every point of the box is within these."""

each_norm = pytest.mark.parametrize("norm", WIDE)
B = 12


def closest(body: Affine, x: Tensor, norm: str) -> Tensor:
    """The exact distance to the nearest other class of each image (B,), the box included."""
    z = body.classify(x[None], None)  # type: ignore[arg-type]
    y = z.argmax(1)
    found = []
    for i, own in enumerate(y.tolist()):
        others = [t for t in range(body.classes) if t != own]
        gaps = [(body.w[t] - body.w[own], (z[i, t] - z[i, own]).item()) for t in others]
        found.append(min(affine_distance(x[i].flatten().tolist(), w.tolist(), gap, norm) for w, gap in gaps))
    return torch.tensor(found, dtype=torch.float64)


@each_norm
@pytest.mark.parametrize("classes", [2, 3, 6])
@pytest.mark.parametrize("targets", [0, 5])
@pytest.mark.parametrize("inside", [True, False])
def test_it_finds_the_closed_form_distance(norm: str, classes: int, targets: int, inside: bool) -> None:
    """|w . x + b| over the dual norm of w for the nearest class; with a box that binds, by bisection."""
    body, x0 = Affine(classes), images(B, inside=inside)
    where, threat = scene(body, x0), WIDE[norm]
    x = FAB(steps=20, targets=targets)(objective(where, margin), x0, threat, ESTIMATOR, where.keys)
    assert (where.judge(x, "test").margin < 0).all()
    expected = closest(body, x0, norm)
    if inside and norm == "Linf" and classes == 2:
        w = body.w[1] - body.w[0]
        direct = (x0.flatten(1) @ w + body.b[1] - body.b[0]).abs() / w.abs().sum()
        torch.testing.assert_close(expected, direct)
    # The overshoot, 5 %, is all that the first step adds; later ones come nearer.
    ratio = threat.distance(x, x0) / expected
    assert ratio.min() >= 1 - 1e-9
    assert ratio.max() <= 1.02


@each_norm
def test_the_first_step_lands_on_the_boundary_up_to_the_overshoot(norm: str) -> None:
    body, x0 = Affine(2), images(B, inside=True)
    where, threat = scene(body, x0), WIDE[norm]
    x = FAB(steps=1)(objective(where, margin), x0, threat, ESTIMATOR, where.keys)
    torch.testing.assert_close(threat.distance(x, x0), 1.05 * closest(body, x0, norm))


@each_norm
@pytest.mark.parametrize("targets", [0, 3])
def test_it_succeeds_exactly_where_the_distance_is_within_eps(norm: str, targets: int) -> None:
    body, x0 = Affine(4), images(40, inside=False)
    where, distance = scene(body, x0), closest(body, x0, norm)
    threat = type(WIDE[norm])(distance.median().item() * 1.03)
    x = FAB(steps=20, targets=targets)(objective(where, margin), x0, threat, ESTIMATOR, where.keys)
    fooled = where.judge(x, "test").margin < 0
    close = (distance / threat.eps - 1).abs() < 0.02
    assert close.sum() < 4
    assert torch.equal(fooled[~close], (distance < threat.eps)[~close])
    where.check_budget("FAB", x, threat)
    # Where nothing was found: nearer to misclassification than the clean image, if at all elsewhere.
    before, after = where.judge(x0, "test").margin, where.judge(x, "test").margin
    assert (after <= before + 1e-12).all()
    assert (after < before)[~fooled].any()


def test_an_image_that_is_wrong_before_stays_as_it_is() -> None:
    where = scene(Affine(3), images(B, inside=True))
    where.y = (where.y + 1) % 3
    x = FAB(steps=5)(objective(where, margin), where.start, Linf(0.3), ESTIMATOR, where.keys)
    assert torch.equal(x, where.start)


class Bent:
    """Two classes, a bent boundary; the first image sees no gradient. Keeps every point it was asked at."""

    final = False
    classes = 2

    def __init__(self, count: int, scale: float = 1.0) -> None:
        self.keys, self.scale = image_keys(0, torch.arange(count)), scale
        self.pull = normal(image_keys(1, torch.arange(1)), (6,))[0].double()
        self.asked: list[Tensor] = []
        self.tried: list[Tensor] = []
        self.salts: list[int] = []

    def value(self, x: Tensor) -> Tensor:
        live = (torch.arange(len(x)) > 0).to(x)
        steep = x * live[:, None] + x.detach() * (1 - live[:, None])
        return self.scale * ((steep - 0.5) @ self.pull.to(x) + 0.7 * (steep - 0.5).square().sum(1) - 0.6)

    def __call__(self, x: Tensor, rule: Any, salt: int) -> Score:
        (self.asked if x.requires_grad else self.tried).append(x.detach().clone())
        self.salts.append(salt)
        loss = self.value(x)
        return Score(loss, loss.detach() > 0)

    def difference(self, rank: int) -> Bent:
        assert rank == 1
        return self


def grey(count: int) -> Tensor:
    return 0.4 + 0.2 * (normal(image_keys(5, torch.arange(count)), (6,)).double() / 4).clamp(-1, 1)


@each_norm
def test_its_steps_are_the_recurrence(norm: str) -> None:
    """From one recorded point to the next: the step of the paper, then the pull back where it is misclassified."""
    x0, threat, steps = grey(4), WIDE[norm], 12
    f = Bent(4)
    FAB(steps=steps)(f, x0, threat, ESTIMATOR, f.keys)
    assert len(f.asked) == steps
    assert torch.equal(f.asked[0], x0)
    crossed = 0
    for k in range(steps):
        x = f.asked[k].clone().requires_grad_()
        gap = f.value(x)
        (w,) = torch.autograd.grad(gap.sum(), x)
        x, gap = x.detach(), gap.detach()
        ahead = onto(x, w, -gap, norm)
        ahead0 = onto(x0, w, (w * (x - x0)).sum(1) - gap, norm)
        far, far0 = (threat.distance(d, torch.zeros_like(d)) for d in (ahead, ahead0))
        a = torch.minimum(far / (far + far0), torch.tensor(0.1))[:, None]
        new = ((1 - a) * (x + 1.05 * ahead) + a * (x0 + 1.05 * ahead0)).clamp(0, 1)
        new[0] = x[0]
        torch.testing.assert_close(f.tried[k], new, rtol=0, atol=1e-12)
        if k + 1 < steps:
            over = f.value(new) > 0
            crossed += int(over.sum())
            back = torch.where(over[:, None], x0 + 0.9 * (new - x0), new)
            torch.testing.assert_close(f.asked[k + 1], back, rtol=0, atol=1e-12)
    assert crossed > 3


@each_norm
@pytest.mark.parametrize("scale", [1.0, 2.0**-100])
def test_without_a_gradient_an_image_stays_and_the_others_go_on(norm: str, scale: float) -> None:
    """float32, whose small gradients have squares of 0."""
    x0, f = grey(5).float(), Bent(5, scale)
    x = FAB(steps=20)(f, x0, WIDE[norm], ESTIMATOR, f.keys)
    assert torch.isfinite(x).all()
    assert all(torch.equal(point[0], x0[0]) for point in [*f.asked, *f.tried])
    assert (f.value(x)[1:] > 0).all()


@pytest.mark.parametrize(("targets", "calls"), [(0, 3 * 20 + 21), (9, 3 * (20 + 21)), (2, 2 * (20 + 21))])
def test_calls_are_what_the_docstring_says(targets: int, calls: int) -> None:
    """Four classes: three boundaries, a gradient for each looked at and a forward a step; one forward at the end."""
    x0 = images(B, inside=False)
    where = scene(Affine(4), x0)
    seen: list[int] = []

    class Counted:
        final = False
        classes = 4

        def __init__(self, f: Any) -> None:
            self.f = f

        def __call__(self, x: Tensor, rule: Any, salt: int) -> Score:
            seen.append(salt)
            return self.f(x, rule, salt)  # type: ignore[no-any-return]

        def difference(self, rank: int) -> Counted:
            return Counted(self.f.difference(rank))

    FAB(steps=20, targets=targets)(Counted(objective(where, margin)), x0, Linf(0.1), ESTIMATOR, where.keys)  # type: ignore[arg-type]
    assert len(seen) == calls


@pytest.mark.parametrize("targets", [0, 3])
def test_every_boundary_has_a_memory_of_its_own(targets: int) -> None:
    """An estimator that counts its calls in its memory: each boundary's count grows by one a step."""
    x0 = images(B, inside=False)
    where = scene(Affine(4), x0)
    counts: list[int] = []

    class Counting:
        def init(self, x: Tensor) -> int:
            return 0

        def __call__(self, f: Any, x: Tensor, carry: int, salt: int) -> Any:
            counts.append(carry)
            return *ESTIMATOR(f, x, None, salt)[:2], carry + 1

    FAB(steps=4, targets=targets)(objective(where, margin), x0, Linf(0.1), Counting(), where.keys)
    expected = [0, 1, 2, 3] * 3 if targets else [k for k in range(4) for _ in range(3)]
    assert counts == expected


def test_restarts_begin_elsewhere_inside_the_ball_and_never_lose() -> None:
    x0 = images(30, inside=False)
    where, threat = scene(Affine(4), x0), Linf(0.05)
    one, three = (
        FAB(steps=3, restarts=n, overshoot=1.0)(objective(where, margin), x0, threat, ESTIMATOR, where.keys)
        for n in (1, 3)
    )
    fooled, more = (where.judge(x, "test").margin < 0 for x in (one, three))
    assert (more | ~fooled).all()
    nearer = threat.distance(three, x0) <= threat.distance(one, x0) + 1e-15
    assert nearer[fooled].all()
    f = Bent(6)
    FAB(steps=2, restarts=2)(f, grey(6), Linf(0.2), ESTIMATOR, f.keys)
    start = Linf(0.2).distance(f.asked[2], grey(6))
    assert (start > 0).all()
    assert (start <= 0.1 + 1e-12).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps >= 1"),
        ({"restarts": 0}, "restarts >= 1"),
        ({"targets": -1}, "targets >= 0"),
        ({"alpha_max": 1.5}, "alpha_max and backward"),
        ({"backward": -0.1}, "alpha_max and backward"),
        ({"overshoot": 0.9}, "overshoot >= 1"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        FAB(**options)
