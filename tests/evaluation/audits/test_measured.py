"""The audits that measure for themselves, on victims whose answers are known in closed form: linear ones, and worse."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
import torch
from made import made
from small import digits, trained, untouched
from subjects import D, Linear, away, clear, linear, roles_of, subject
from torch import Tensor

from spikeproof import parts
from spikeproof.attacks.fgsm import FGSM
from spikeproof.encoders.direct import Direct
from spikeproof.encoders.poisson import Poisson
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluation.audits import AuditResult, Effort, Subject
from spikeproof.evaluation.audits._touch import rise
from spikeproof.evaluation.audits.domain import _rounded
from spikeproof.evaluation.judge import Case
from spikeproof.losses import cross_entropy
from spikeproof.rules.atan import ATan
from spikeproof.tensors import exact, graft, image_keys, normal, uniform
from spikeproof.threats.l1 import L1
from spikeproof.threats.l2 import L2
from spikeproof.threats.linf import Linf
from spikeproof.types import Rule
from spikeproof.victims.batch import Batch
from spikeproof.victims.scene import Cost
from spikeproof.victims.victim import Victim

EPS = 0.02
W = normal(image_keys(0, torch.arange(1)), (D,))[0].double()
W = W + W.sign() / 2  # no weight near 0


def found(name: str, of: Subject) -> AuditResult:
    finding: AuditResult = parts.build("audits", {"name": name})(of)
    return finding


def backwards(z: Tensor) -> Tensor:
    """The same values; the gradient points downhill."""
    return graft(z, -z)


def never(logits: Tensor, rule: Rule) -> Tensor:
    """The same answer everywhere, on a graph whose gradient is exactly zero."""
    return 0.0 * logits + torch.tensor([3.0, 0.0], dtype=logits.dtype)


# --- D5, along the gradient ---


def test_a_linear_loss_rises_along_its_gradient() -> None:
    of = found("along_gradient", subject(linear(W, -1.0), clear(20, spread=0.1)))
    assert (of.code, of.colour, of.value, of.n) == ("D5", "green", 1.0, 20)
    assert of.detail == {"rises": {"0.125": 1.0, "0.25": 1.0, "0.5": 1.0, "1.0": 1.0}, "beaten": 0}


def test_a_gradient_that_points_downhill_is_red() -> None:
    of = found("along_gradient", subject(linear(W, -1.0, before=backwards), clear(20, spread=0.1)))
    assert (of.colour, of.value, of.detail["beaten"]) == ("red", 0.0, 20)


class _Bent(torch.nn.Module):
    """The margin is t - 2 t^2, where t = 1 is the corner along the gradient at the clean image."""

    in_channels, classes = 1, 2

    def classify(self, z: Tensor, rule: Rule) -> Tensor:
        t = (z.mean(0).flatten(1) - 0.5).sum(1) / (EPS * D)
        return torch.stack([torch.zeros_like(t), t - 2 * t.square() - 9], 1)


def test_a_gradient_that_is_right_for_short_steps_alone_loses_to_chance() -> None:
    of = found("along_gradient", subject(Victim(_Bent(), Direct(), 1).eval(), clear(20)))
    assert of.value == 1.0  # at eps/8
    assert of.detail["rises"] == {"0.125": 1.0, "0.25": 1.0, "0.5": 0.0, "1.0": 0.0}
    assert (of.colour, of.detail["beaten"]) == ("red", 20)


# --- D6, zero gradients ---


def test_a_dense_gradient_is_green() -> None:
    of = found("zero_gradients", subject(linear(W, -1.0), clear(20, spread=0.1)))
    assert (of.code, of.colour, of.value) == ("D6", "green", 0.0)
    assert of.detail == {"zero_share": 0.0, "covered": 1.0}


def test_images_without_any_gradient_are_red() -> None:
    of = found("zero_gradients", subject(linear(W, -1.0, after=never), clear(20)))
    assert (of.colour, of.value) == ("red", 1.0)
    assert of.detail == {"zero_share": 1.0, "covered": 0.0}


def test_pixels_that_no_step_ever_sees_are_red() -> None:
    hidden = torch.arange(D) < 4
    of = found("zero_gradients", subject(linear(W, -1.0, before=away(hidden)), clear(20)))
    assert (of.colour, of.value) == ("red", 0.0)
    assert of.detail == {"zero_share": 0.25, "covered": 0.75}


def test_unseen_pixels_that_do_not_matter_are_green() -> None:
    of = found("zero_gradients", subject(linear(torch.where(torch.arange(D) % 2 == 0, 1.0, 0.0), -1.0), clear(20)))
    assert of.detail == {"zero_share": 0.5, "covered": 0.5}
    assert of.colour == "green"


def test_pixels_that_are_zero_here_and_seen_along_the_attack_are_green() -> None:
    """One pixel's gradient is exactly zero where it is exactly grey, as a clipped gradient may be at one point."""

    def away_at_grey(z: Tensor) -> Tensor:
        return torch.where((z == 0.5) & (torch.arange(D).view(4, 4) < 8), z.detach(), z)

    of = found("zero_gradients", subject(linear(W, -1.0, before=away_at_grey), clear(20)))
    assert of.detail == {"zero_share": 0.5, "covered": 1.0}
    assert (of.colour, of.value) == ("green", 0.0)


# --- D6d, false zeros: w is 1 on every pixel, so that the rise on a set of pixels is eps times their number ---


def false_zeros(w: Tensor, **more: Any) -> AuditResult:
    effort = Effort(64, 150, 10)  # of four pixels every corner is met
    return found("false_zeros", subject(linear(w, -1.0, **more), clear(12, spread=0.1), effort=effort))


def test_true_zeros_cost_nothing() -> None:
    of = false_zeros(torch.where(torch.arange(D) % 2 == 0, 1.0, 0.0))
    assert (of.code, of.colour, of.value, of.n) == ("D6d", "green", 0.0, 12)


def test_images_without_a_pixel_to_touch_are_not_asked_and_have_no_rise() -> None:
    """Each pixel of weight 1 and both signs tried: the best corner of k pixels raises the loss by k eps."""
    of = subject(linear(torch.ones(D), -1.0), clear(4))
    cost, mask = Cost(4), torch.zeros(4, D, dtype=torch.bool)
    mask[1, :2], mask[3, :3] = True, True
    scene, _ = of.scene(of.batch, "touch")
    f = scene.objective(of.case.loss, cost)
    found = rise(f, scene.start, of.threat, mask, scene.keys, 40)
    assert found.tolist() == pytest.approx([0.0, 2 * EPS, 0.0, 3 * EPS])
    assert cost.forwards.tolist() == [0, 41, 0, 41]


def test_zeros_that_a_hook_made_raise_the_loss_by_eps_times_what_they_hide() -> None:
    hidden = torch.arange(D) < 4
    of = false_zeros(torch.ones(D), before=away(hidden))
    assert (of.colour, of.n) == ("red", 12)
    assert of.value == pytest.approx(1.0)
    assert f"zero pixels raises the loss by {4 * EPS:.3g}, as many others by {4 * EPS:.3g}" in of.says


def test_the_limit_is_a_share_of_what_as_many_other_pixels_do() -> None:
    """Hidden pixels a tenth as strong as the others are green, three tenths red."""
    hidden = torch.arange(D) < 4
    for weight, colour in ((0.1, "green"), (0.3, "red")):
        of = false_zeros(torch.where(hidden, weight, 1.0), before=away(hidden))
        assert of.value == pytest.approx(weight)
        assert of.colour == colour


def test_where_most_are_zero_as_many_zeros_as_others_are_touched() -> None:
    of = false_zeros(torch.ones(D), before=away(torch.arange(D) >= 4))
    assert (of.colour, of.value) == ("red", pytest.approx(1.0))


def test_without_zeros_or_without_anything_else_there_is_nothing_to_compare() -> None:
    for of in (false_zeros(torch.ones(D)), false_zeros(torch.ones(D), after=never)):
        assert (of.colour, of.value, of.n) == ("green", 0.0, 12)
        assert "no image of 12 has more than 5 % zeros" in of.says


# --- D12, fidelity ---


@pytest.mark.parametrize("threat", [Linf(EPS), L2(0.1), L1(0.3)], ids=repr)
def test_a_linear_gradient_foresees_every_finite_step(threat: Any) -> None:
    of = found("fidelity", subject(linear(W, -1.0), clear(20, spread=0.5), threat=threat))
    assert (of.code, of.colour, of.value, of.n) == ("D12", "green", 1.0, 16)
    assert of.limit == pytest.approx(3.0 * 1.25 / (100 * of.n) ** 0.5)


@pytest.mark.parametrize(("change", "value"), [({"before": backwards}, -1.0), ({"after": never}, 0.0)])
def test_a_gradient_that_foresees_nothing_is_red(change: dict[str, Any], value: float) -> None:
    of = found("fidelity", subject(linear(W, -1.0, **change), clear(8)))
    assert (of.colour, of.value) == ("red", value)


def test_a_part_of_the_gradient_foresees_its_part() -> None:
    """With k of 16 equal weights in sight the correlation is sqrt(k / 16) but for chance."""
    hidden = torch.arange(D) >= 4
    of = found("fidelity", subject(linear(before=away(hidden), b=-1.0), clear(16), effort=Effort(64, 200, 10)))
    assert of.value == pytest.approx(0.5, abs=0.08)


# --- D11, plateaus ---


def quantised(z: Tensor) -> Tensor:
    return graft(torch.round(3 * z) / 3, z)


def test_a_linear_network_has_no_plateau() -> None:
    of = found("flatness", subject(linear(W, -1.0), clear(20, spread=0.1)))
    assert (of.code, of.colour, of.value) == ("D11", "green", 0.0)
    assert set(of.detail["identical"].values()) == {0.0}
    assert of.detail["alignment"] == 1.0


def test_a_coarsely_quantised_input_is_all_plateau() -> None:
    x = clear(20, spread=0.1) - 1 / 6  # in the middle of the cell of 1/3
    of = found("flatness", subject(linear(W, -1.0, before=quantised), x))
    assert (of.colour, of.value) == ("red", 1.0)
    assert set(of.detail["identical"].values()) == {1.0}
    assert of.detail["loss_change"] == 0.0


def test_a_plateau_finer_than_a_grey_level_is_no_alarm() -> None:
    """Cells of 1/1000 around the image: nothing happens within 1e-4, and something at a grey level."""
    of = found("flatness", subject(linear(W, -1.0, before=lambda z: graft(torch.round(1000 * z) / 1000, z)), clear(20)))
    assert (of.colour, of.value) == ("green", 0.0)
    assert of.detail["identical"]["0.0001"] == 1.0


# --- D3, the attack without a limit ---


def test_a_wide_margin_falls_to_an_attack_without_a_limit() -> None:
    """The margin is 99 % of what the whole box can do."""
    w = torch.ones(D)
    of = found("unbounded", subject(linear(w, -0.99 * 0.5 * D), clear(20)))
    assert (of.code, of.colour, of.value, of.n) == ("D3", "green", 0.0, 20)
    assert of.breaks == "not evaluated"


def test_a_network_that_nothing_can_break_is_red() -> None:
    of = found("unbounded", subject(linear(W, after=never), clear(20)))
    assert (of.colour, of.value, of.n) == ("red", 1.0, 20)


@pytest.mark.parametrize(
    ("threat", "full"),
    [(Linf(EPS), 1.0), (L2(0.1), 4.0), (L1(0.1), 16.0), (L2(0.1, surface="encoded"), 48**0.5),
     (L1(0.1, surface="encoded"), 48.0), (Linf(0.1, surface="encoded"), 1.0)],
    ids=repr,
)  # fmt: skip
def test_without_a_limit_the_ball_holds_the_whole_box(threat: Any, full: float) -> None:
    victim = Victim(Linear(W, -0.1), Direct(), 3).eval()
    wide = subject(victim, clear(2), threat=threat).unlimited()
    assert wide.eps == pytest.approx(full)
    black = torch.zeros(1, 1, 4, 4) if threat.surface == "pixels" else torch.zeros(1, 3, 1, 4, 4)
    assert wide.distance(1 - black, black).item() == pytest.approx(full)


# --- D4, budgets ---


def test_the_curve_of_a_linear_network_is_the_one_that_can_be_computed() -> None:
    """An image falls where eps, on the pixels that have so much room, is worth more than the margin."""
    x = uniform(image_keys(5, torch.arange(40)), (1, 4, 4)).double()
    b = -0.02 * float(W.abs().sum())
    values = (x.flatten(1) - 0.5) @ W + b
    x = x[values < 0]
    of = found("budgets", subject(linear(W, b), x))
    room = torch.where(W > 0, 1 - x.flatten(1), x.flatten(1))
    margins = -values[values < 0]
    multiples = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
    radii = [*(k * EPS for k in multiples), 1.0]
    expected = [float(((room.clamp(max=eps) * W.abs()).sum(1) < margins).double().mean()) for eps in radii]
    assert expected[0] > 0.5 > expected[-1]
    assert list(of.detail["curve"].values()) == pytest.approx(expected, abs=1e-4)
    assert (of.code, of.colour, of.value) == ("D4", "green", 0.0)


class _Worse(torch.nn.Module):
    """One step of up to 1.5 eps breaks every image, a longer one none: the attack gets worse with the budget."""

    in_channels, classes = 1, 2

    def classify(self, z: Tensor, rule: Rule) -> Tensor:
        t = (z.mean(0).flatten(1) - 0.5).mean(1) / EPS
        return torch.stack([torch.zeros_like(t), t * (1.5 - t) - 0.01], 1)


def test_an_attack_that_gets_worse_with_the_budget_is_red() -> None:
    of = found("budgets", subject(Victim(_Worse(), Direct(), 1).eval(), clear(20), attack=FGSM()))
    multiples = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 1 / EPS)
    assert of.detail["curve"] == {f"{k * EPS:.4g}": float(k > 1.5) for k in multiples}
    assert (of.colour, of.value) == ("red", 1.0)


def test_a_curve_that_never_falls_is_red() -> None:
    of = found("budgets", subject(linear(W, after=never), clear(20)))
    assert (of.colour, of.value) == ("red", 0.0)
    assert "flat" in of.says


def test_small_budgets_that_break_nothing_are_no_flat_stretch() -> None:
    of = found("budgets", subject(linear(W, -10 * EPS * float(W.abs().sum())), clear(20)))
    curve = list(of.detail["curve"].values())
    assert curve[:4] == [1.0] * 4
    assert curve[-1] == 0.0
    assert of.colour == "green"


def test_a_budget_above_the_box_is_the_box() -> None:
    of = found("budgets", subject(linear(W, -0.3), clear(5), threat=Linf(0.3)))
    assert list(of.detail["curve"]) == ["0.075", "0.15", "0.3", "0.6", "1"]


# --- D16, saturation ---


def loud(logits: Tensor, rule: Rule) -> Tensor:
    return (1000.0 * logits).float()


def test_logits_times_a_thousand_hide_from_the_cross_entropy() -> None:
    """Margins of 0.3 times 1000: exp(-300) is no float32, so there is no gradient at all; 0.32 are within reach."""
    of = found("saturation", subject(linear(b=-0.3, after=loud), clear(20), loss=cross_entropy))
    assert (of.code, of.colour, of.value, of.n) == ("D16", "red", 1.0, 20)
    assert of.detail["saturated"] == 20


def test_logits_of_usual_size_are_green() -> None:
    of = found("saturation", subject(linear(), clear(20), loss=cross_entropy))
    assert (of.colour, of.value, of.detail["saturated"]) == ("green", 0.0, 0)


def test_saturated_and_out_of_reach_is_no_masking() -> None:
    """No attack within eps can break these, at whatever temperature."""
    of = found("saturation", subject(linear(b=-2 * EPS * D, after=loud), clear(20), loss=cross_entropy))
    assert (of.colour, of.value, of.detail["saturated"]) == ("green", 0.0, 20)


# --- D15, the optimiser ---


def test_an_attack_that_reaches_the_corner_has_nothing_left_to_gain() -> None:
    """Out of reach, so that every image survives: the best of a linear loss stands still long before the end."""
    of = found("optimiser", subject(linear(W, -4.0), clear(30, spread=0.1)))
    assert (of.code, of.colour, of.value) == ("D15", "green", 0.0)
    assert "0 of 30 survivors still rising" in of.says


def test_a_success_on_the_way_that_the_judge_does_not_share_is_red() -> None:
    """The network under attack gives in a little earlier than the deployed one."""

    def after(logits: Tensor, rule: Rule) -> Tensor:
        return logits if rule is exact else logits + torch.tensor([0.0, 0.2], dtype=logits.dtype)

    of = found("optimiser", subject(linear(b=-0.4, after=after), clear(20)))  # 0.32 are within reach
    assert (of.colour, of.value) == ("red", 1.0)


def test_a_loss_that_still_rises_at_the_end_is_red() -> None:
    """Only the least bright pixel has a gradient: in 20 steps each of 16 moves about once, and ten would be needed."""

    def one_at_a_time(z: Tensor) -> Tensor:
        least = z == z.flatten(2).amin(2)[..., None, None, None]
        return torch.where(least, z, z.detach())

    of = found("optimiser", subject(linear(b=-4.0, before=one_at_a_time), clear(30)))
    assert (of.colour, of.value) == ("red", 0.0)
    assert of.detail["unfinished"] == 30


# --- D17, domain ---


@dataclass(frozen=True)
class Beyond:
    """An attack that leaves the box by half of what rounding may."""

    by: float = 5e-7

    def __call__(self, f: Any, x0: Tensor, threat: Any, estimator: Any, keys: Tensor) -> Tensor:
        return x0 + self.by


def test_what_pgd_proposes_is_what_a_saved_image_gives() -> None:
    of = found("domain", subject(linear(), clear(20)))
    assert (of.code, of.colour, of.value, of.n) == ("D17", "green", 0.0, 20)
    assert of.breaks == "not evaluated"


def test_one_image_that_no_picture_can_be_is_red() -> None:
    x = clear(20)
    x[3] = 1.0
    of = found("domain", subject(linear(b=-20.0), x, attack=Beyond()))
    assert (of.colour, of.value) == ("red", 0.05)


def test_an_attack_within_a_grey_level_does_not_survive_rounding() -> None:
    """Margins of half of what 0.3 grey levels can do: broken as numbers, clean again as a picture."""
    x = torch.full((10, 1, 4, 4), 128 / 255, dtype=torch.float64)
    eps = 0.3 / 255
    b = -float((x[0].flatten() - 0.5).sum()) - 0.5 * eps * D
    of = found("domain", subject(linear(b=b), x, threat=Linf(eps)))
    assert of.detail == {"broken": 10, "broken_on_the_grid": 0}
    wide = found("domain", subject(linear(b=b), x, threat=Linf(3 / 255)))
    assert wide.detail == {"broken": 10, "broken_on_the_grid": 10}


def test_rounding_goes_to_a_grey_level_and_never_farther_from_a_clean_one() -> None:
    clean = (uniform(image_keys(0, torch.arange(50)), (1, 4, 4)) * 255).round().double() / 255
    point = (clean + 0.05 * normal(image_keys(1, torch.arange(50)), (1, 4, 4))).clamp(0, 1)
    rounded = _rounded(point, clean)
    assert torch.equal((255 * rounded).round() / 255, rounded)
    assert ((rounded - clean).abs() <= (point - clean).abs() + 1e-12).all()
    assert ((rounded - point).abs() < 1 / 255).all()


def test_a_threat_behind_the_encoder_has_no_picture() -> None:
    assert found("domain", subject(linear(), clear(3), threat=Linf(EPS, surface="encoded"))).colour == "not run"


# --- D18, the control ---


@pytest.mark.parametrize(
    ("control", "colour", "value"),
    [
        (linear(b=-0.1), "green", 1.0),
        (linear(b=-2 * EPS * D), "red", 0.0),
        (linear(after=never), "red", 0.0),
        (linear(b=+0.1), "red", 0.0),  # it gets none of the images right, so nothing can fall
    ],
    ids=["weak", "out of reach", "constant", "wrong"],
)
def test_an_undefended_network_must_fall(control: Victim, colour: str, value: float) -> None:
    of = found("control", subject(linear(), clear(20), control=control))
    assert (of.code, of.colour, of.value) == ("D18", colour, value)
    assert of.breaks == "not evaluated"


def test_without_a_control_it_is_not_run() -> None:
    assert found("control", subject(linear(), clear(20))).colour == "not run"


def test_the_control_is_left_alone() -> None:
    control = trained()
    x, y, ids = digits(8)
    case = Case(FGSM(), WhiteBox(ATan()), cross_entropy)
    with untouched(control):
        batch = Batch.of(control, x, y, ids, 0)
        found("control", Subject(control, batch, Linf(0.1), case, (), Effort(8, 2, 2), 8, control))


# --- D13, determinism ---


def noisy(logits: Tensor, rule: Rule) -> Tensor:
    return logits + 1e-3 * torch.randn_like(logits)


class Remembering:
    """Adds a part of the last call's logits to the next."""

    def __init__(self, share: float) -> None:
        self.share, self.last = share, torch.zeros(1, 2, dtype=torch.float64)

    def __call__(self, logits: Tensor, rule: Rule) -> Tensor:
        given = logits + self.share * self.last
        self.last = logits.detach().mean(0, keepdim=True)
        return given


def test_the_same_logits_every_time_are_green() -> None:
    of = found("determinism", subject(linear(W, -1.0), clear(20)))
    assert (of.code, of.colour, of.value, of.n) == ("D13", "green", 0.0, 20)
    assert of.breaks == "not evaluated"


def test_noise_that_is_drawn_from_the_keys_is_deterministic() -> None:
    of = found("determinism", subject(linear(W, -9.0, encoder=Poisson()), clear(20)))
    assert (of.colour, of.value) == ("green", 0.0)


@pytest.mark.parametrize("after", [noisy, Remembering(0.3)], ids=["noise", "state"])
@pytest.mark.parametrize("count", [1, 20])
def test_noise_and_state_are_red(after: Callable[..., Tensor], count: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        of = found("determinism", subject(linear(W, -1.0, after=after), clear(count, spread=0.1)))
    assert of.colour == "red"
    assert of.value is not None
    assert of.value > 1e-4


# --- D14, the same model ---


def by_company(logits: Tensor, rule: Rule) -> Tensor:
    return logits - logits.mean(0, keepdim=True)


def test_one_forward_for_attack_and_verdict_is_green() -> None:
    of = found("same_model", subject(linear(W, -1.0), clear(20, spread=0.1)))
    assert (of.code, of.colour, of.value, of.n) == ("D14", "green", 0.0, 20)
    assert of.breaks == "not evaluated"


def test_answers_that_depend_on_the_batch_are_red() -> None:
    """The answer of a half of any batch is 1; alone, a tie gives 0 to everyone."""
    of = found("same_model", subject(linear(W, -1.0, after=by_company), clear(40, spread=0.1)))
    assert of.colour == "red"
    assert of.value == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize(("by", "colour"), [(1e-9, "green"), (1e-5, "red"), (0.1, "red")])
def test_another_network_under_attack_is_red_and_rounding_is_not(by: float, colour: str) -> None:
    def after(logits: Tensor, rule: Rule) -> Tensor:
        return logits if rule is exact else logits + by

    of = found("same_model", subject(linear(W, -1.0, after=after), clear(20)))
    assert (of.colour, of.value) == (colour, float(colour == "red"))


def test_a_state_of_each_image_is_red_and_no_raw_error() -> None:
    class Keeps(torch.nn.Module):
        last: Tensor | None = None

        def forward(self, logits: Tensor) -> Tensor:
            before, self.last = self.last, logits
            return logits if before is None else logits + before

    keeps = Keeps()
    of = found("determinism", subject(linear(W, -1.0, after=lambda logits, rule: keeps(logits)), clear(20)))
    assert of.colour == "red"
    assert "batch of another size" in of.says


def test_unbounded_counts_what_any_of_its_runs_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty steps break all but the first image, two hundred break the first alone: nothing survives."""
    runs: list[int] = []

    def attacked(self: Subject, purpose: str, case: Any, threat: Any) -> list[dict[str, Any]]:
        runs.append(case.attack.steps)
        return [{"fooled": (i == 0) == (case.attack.steps > 20)} for i in range(5)]

    monkeypatch.setattr(Subject, "attacked", attacked)
    of = found("unbounded", subject(linear(W, -1.0), clear(5)))
    assert runs == [20, 200]
    assert (of.colour, of.value) == ("green", 0.0)


def test_a_difference_on_perturbed_images_alone_is_found() -> None:
    def after(logits: Tensor, rule: Rule) -> Tensor:
        return logits if rule is exact else logits.clamp(min=-0.1)

    of = found("same_model", subject(linear(b=-0.1, after=after), clear(20)))
    assert (of.colour, of.value) == ("red", 1.0)


def test_a_frozen_twin_that_answers_otherwise_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every attack is crafted on it, so a twin that is another network hides what the attacks could find."""
    of = DIGITS.subject(lambda index: index, 64)
    assert found("same_model", of).colour == "green"
    liar = copy.deepcopy(DIGITS.victim)
    with torch.no_grad():
        next(liar.body.parameters()).neg_()
    monkeypatch.setattr("spikeproof.evaluation.audits.same_model.freeze", lambda victim: liar)
    told = found("same_model", of)
    assert (told.colour, told.breaks) == ("red", "not evaluated")
    assert "frozen twin" in told.says


# --- the same for any order of the images, and any batch ---


class Digits:
    """Digits that a small network gets right, in float64."""

    @cached_property
    def victim(self) -> Victim:
        return trained().double()

    def subject(self, order: Callable[[Tensor], Tensor], batch_size: int) -> Subject:
        x, y, ids = digits(10)
        batch = Batch.of(self.victim, x.double(), y, ids, 0)
        right = (self.victim(batch.x, exact, batch.keys).argmax(1) == y).nonzero()[:, 0]
        index = order(right)
        case = Case(parts.build("attacks", {"name": "pgd", "steps": 3}), WhiteBox(ATan()), cross_entropy)
        rows = [
            made("attack", image=i, attack=group, group=group, fooled=i % 2 == 0, distance=0.1)
            for i in ids[index].tolist()
            for group in ("first", "random", "black box", "white box")
        ]
        effort, roles = Effort(64, 4, 3), roles_of(rows)
        return Subject(self.victim, batch.take(index), Linf(0.1), case, rows, effort, batch_size, self.victim, roles)


DIGITS = Digits()


@pytest.mark.parametrize("name", parts.names("audits"))
def test_a_finding_does_not_depend_on_order_or_batches(name: str) -> None:
    with untouched(DIGITS.victim):
        whole = found(name, DIGITS.subject(lambda i: i, 64)).row()
        turned = found(name, DIGITS.subject(lambda i: i.flip(0), 3)).row()
        mixed = found(name, DIGITS.subject(lambda i: i[image_keys(1, i).argsort()], 1)).row()
    assert whole == turned == mixed


def test_a_part_of_the_images_is_a_fair_choice_that_no_order_changes() -> None:
    x = clear(40, spread=0.3)
    some = {tuple(image.flatten().tolist()) for batch in subject(linear(), x).batches(7) for image in batch.x}
    ids = torch.arange(40).flip(0)
    again = {tuple(i.flatten().tolist()) for b in subject(linear(), x.flip(0), ids=ids).batches(7) for i in b.x}
    assert some == again
    assert len(some) == 7
    assert some != {tuple(image.flatten().tolist()) for image in x[:7]}
