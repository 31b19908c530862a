"""The controls: each mask does to a network what it is said to do, and honest networks are told from masked ones."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small import digits, trained, untouched
from torch import Tensor

from spikeproof import parts
from spikeproof.data.digits import Digits
from spikeproof.metrics.robustness import Interval
from spikeproof.metrics.verdict import NOT_EVALUATED, Verdict, Word
from spikeproof.rules.atan import ATan
from spikeproof.store.store import Store
from spikeproof.study import controls, masks
from spikeproof.study.control_networks import PooledResNet, _Fires
from spikeproof.study.controls import CONTROLS, Control, Outcome, run_controls
from spikeproof.study.run import Machine
from spikeproof.tensors import exact, image_keys
from spikeproof.victims.taps import cut_at
from spikeproof.victims.victim import Victim

X, Y, IDS = digits(8)
KEYS = image_keys(0, IDS)
QUIET = Machine(progress=False)


def masked(name: str) -> tuple[Victim, Victim]:
    """A small trained network, and the same behind the mask of that name."""
    victim = trained()
    with untouched(victim):
        return victim, CONTROLS[name].change(victim)


def logits(victim: Victim, x: Tensor = X) -> Tensor:
    return victim(x, exact, KEYS[: len(x)])


def gradient(victim: Victim, x: Tensor = X) -> Tensor:
    x = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(victim(x, ATan(), KEYS[: len(x)]).logsumexp(1).sum(), x)
    return g


# --- what each mask does ---


def test_honest_networks_come_first_as_they_are() -> None:
    kinds = [control.masked for control in CONTROLS.values()]
    assert kinds == sorted(kinds)
    assert (kinds.count(False), kinds.count(True)) == (5, 17)
    victim = trained()
    assert all(control.change(victim) is victim for control in CONTROLS.values() if not control.masked)
    used = {control.network for control in CONTROLS.values()} | {control.beside for control in CONTROLS.values()}
    assert used == {*controls._NETWORKS, *controls._PLAIN, ""}
    assert [name for name, control in CONTROLS.items() if control.defended] == [controls._DEFENDED]


def test_loud_logits_have_the_same_answers() -> None:
    victim, loud = masked("logits x 1000")
    torch.testing.assert_close(logits(loud), 1000 * logits(victim))


def test_a_narrow_surrogate_leaves_the_network_as_it_is_and_most_of_its_gradient_zero() -> None:
    victim, same = masked("surrogate of width 0.05")
    assert same is victim
    rule = CONTROLS["surrogate of width 0.05"].rule
    x = X.clone().requires_grad_()
    (narrow,) = torch.autograd.grad(victim(x, rule, KEYS).logsumexp(1).sum(), x)
    assert (narrow == 0).double().mean() > (gradient(victim) == 0).double().mean() + 0.3


def test_batch_statistics_make_an_answer_depend_on_the_company() -> None:
    victim, leaking = masked("batch statistics")
    torch.testing.assert_close(logits(victim)[:1], logits(victim, X[:1]))
    assert (logits(leaking)[:1] - logits(leaking, X[:1])).abs().max() > 1e-2
    assert not any(module.training for module in leaking.modules())


def test_a_quantised_input_has_four_values() -> None:
    victim, coarse = masked("quantised input")
    z = coarse.encode(torch.linspace(0, 1, 64).view(1, 1, 8, 8), KEYS[:1])
    assert z.unique().numel() == 4
    assert torch.equal(logits(coarse), logits(victim, (3 * X).round() / 3))


def test_nine_tenths_of_the_gradient_are_hidden_and_no_value_is_changed() -> None:
    victim, hiding = masked("nine tenths of the gradient hidden")
    assert torch.equal(logits(hiding), logits(victim))
    seen = gradient(hiding) != 0
    assert not (seen & (torch.arange(64).view(1, 1, 8, 8) % 10 != 0)).any()
    torch.testing.assert_close(gradient(hiding)[seen], gradient(victim)[seen])


def test_a_third_of_the_gradient_is_turned_round_and_no_value_is_changed() -> None:
    victim, turned = masked("a third of the gradient turned round")
    assert torch.equal(logits(turned), logits(victim))
    third = torch.arange(64).view(1, 1, 8, 8) % 3 == 0
    torch.testing.assert_close(gradient(turned), torch.where(third, -gradient(victim), gradient(victim)))


def test_signs_from_a_hash_follow_the_image_and_leave_sizes_and_values() -> None:
    victim, hashed = masked("signs of the gradient from a hash")
    assert torch.equal(logits(hashed), logits(victim))
    found, own = gradient(hashed), gradient(victim)
    torch.testing.assert_close(found.abs(), own.abs())
    assert torch.equal(found, gradient(hashed))
    seen = own != 0
    assert 0.3 < (found[seen] == own[seen]).double().mean() < 0.7
    other = X.clone()
    other[:, :, 0, 0] = 1 - other[:, :, 0, 0]  # an end of the grey range on digits: another hash
    assert not torch.equal(gradient(hashed, other).sign(), found.sign())


def test_noise_that_the_image_seeds_is_the_same_each_time_and_another_for_each_image() -> None:
    x = torch.full((2, 1, 8, 8), 0.4)
    x[1, 0, 3, 3] += 1 / 255
    found = masks.seeded_noise(x)
    assert torch.equal(found, masks.seeded_noise(x))
    assert (found - x).abs().max() <= 0.1
    assert (found[0] - found[1]).abs().mean() > 0.03
    victim, noisy = masked("noise seeded by the image")
    inside = 0.1 + 0.8 * X
    assert torch.equal(logits(noisy, inside), logits(victim, masks.seeded_noise(inside)))
    torch.testing.assert_close(gradient(noisy, inside), gradient(victim, masks.seeded_noise(inside)))


def test_the_gradient_of_another_network_is_shown_behind_the_answers_of_the_first() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        other = copy.deepcopy(trained())
        for weight in other.parameters():
            weight.data.add_(0.1 * torch.randn_like(weight))
    victim = trained()
    assert not torch.allclose(logits(other), logits(victim))
    two = masks.gradient_of(victim, other)
    assert torch.equal(logits(two), logits(victim))
    x = X.clone().requires_grad_()
    seen = two(x, ATan(), KEYS)
    torch.testing.assert_close(seen, logits(victim))
    (g,) = torch.autograd.grad(seen.sum(), x)
    x = X.clone().requires_grad_()
    torch.testing.assert_close(g, torch.autograd.grad(other(x, ATan(), KEYS).sum(), x)[0])


def test_a_plain_network_is_the_same_whatever_its_surrogate() -> None:
    honest, scaled, sharp = (controls.plain(1, *controls._PLAIN[name]) for name in list(controls._PLAIN)[:3])
    assert torch.equal(honest(X), scaled(X))
    assert torch.equal(honest(X), sharp(X))
    x = X.clone().requires_grad_()
    g, small, other = (torch.autograd.grad(net(x).logsumexp(1).sum(), x)[0] for net in (honest, scaled, sharp))
    assert 0 < small.abs().max() < 1e-11 * g.abs().max()
    assert (other - g).abs().max() > 0.1 * g.abs().max()


def test_the_slope_of_a_plain_neuron_is_that_of_its_sigmoid() -> None:
    v = torch.linspace(-1, 3, 41, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(_Fires.apply(v, 3.0, 0.5).sum(), v)
    at = torch.linspace(-1, 3, 41, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad((0.5 * torch.sigmoid(3.0 * (at - 1))).sum(), at)
    torch.testing.assert_close(found, expected)
    assert torch.equal(_Fires.apply(v, 3.0, 0.5).detach(), (v >= 1).double())


def test_noise_differs_from_call_to_call() -> None:
    _, noisy = masked("noise at inference")
    with torch.random.fork_rng(devices=[]):
        assert not torch.equal(logits(noisy), logits(noisy))


def test_a_detached_encoder_cuts_the_graph() -> None:
    victim, cut = masked("detached encoder")
    assert torch.equal(logits(cut), logits(victim))
    assert "encoder" in str(cut_at(cut, X, ATan(), KEYS))
    assert cut_at(victim, X, ATan(), KEYS) is None


def test_a_stale_state_remembers_the_call_before() -> None:
    _, stale = masked("stale state")
    first, second = logits(stale), logits(stale)
    torch.testing.assert_close(second - first, 0.3 * first.mean(0).expand_as(first))


def test_a_network_that_sees_maxima_is_blind_to_three_pixels_of_four_and_they_all_matter() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = PooledResNet(in_channels=1, classes=10, neuron=lambda: parts.build("neurons", {"name": "if"}), width=4)
    victim = Victim(body, parts.build("encoders", {"name": "direct"}), 3).eval()
    x = 0.1 + 0.8 * torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    g = gradient(victim, x)
    blind = g == 0
    assert (blind.view(4, 4, 2, 4, 2).sum((2, 4)) >= 3).all()
    raised = torch.where(blind, 1.0, x)
    assert not torch.equal(logits(victim, raised), logits(victim, x))


# --- what is made of them ---


@pytest.mark.parametrize(
    ("is_masked", "flagged", "broken", "passed"),
    [
        (False, False, 1.0, True),
        (False, False, 0.99, True),
        (False, False, 0.98, False),
        (False, False, None, False),
        (False, True, None, False),
        (True, True, None, True),
        (True, False, 1.0, True),
        (True, False, 0.98, True),
        (True, False, 0.97, False),
        (True, False, None, False),
    ],
)
def test_a_control_passes_where_it_is_what_it_is_said_to_be(
    is_masked: bool, flagged: bool, broken: float | None, passed: bool
) -> None:
    assert Outcome("it", is_masked, flagged, "", broken).passed == passed
    if broken is not None:
        assert Outcome("it", is_masked, flagged, "", broken / 2, broken).passed == passed


def test_a_defended_network_may_keep_its_images_and_is_not_flagged() -> None:
    assert Outcome("it", False, False, "", 0.1, defended=True).passed
    assert not Outcome("it", False, True, "", defended=True).passed
    assert not Outcome("it", False, False, "", defended=True).passed


def outcomes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tier: str, **few: Control) -> dict[str, Outcome]:
    """Some controls on a small network that is trained already."""
    network = controls._FIRST
    asked: list[tuple[str, bool]] = []

    def ready(name: str, store: Store, machine: Machine, smallest: bool) -> tuple[Victim, Any]:
        asked.append((name, smallest))
        return trained(), Digits().load("test")

    monkeypatch.setattr(controls, "CONTROLS", few)
    monkeypatch.setattr(controls, "_trained", ready)
    found = {one.name: one for one in run_controls(Store(tmp_path), QUIET, tier=tier, images=12, smallest=True)}
    assert asked == [(network, True)] * len(few)
    assert list(found) == list(few)
    return found


def test_an_honest_network_passes_and_masked_ones_do_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = outcomes(
        monkeypatch,
        tmp_path,
        "smoke",
        honest=Control(controls._FIRST, masked=False),
        noise=CONTROLS["noise at inference"],
        state=CONTROLS["stale state"],
        cut=CONTROLS["detached encoder"],
    )
    honest = found["honest"]
    assert (honest.masked, honest.flagged, honest.power) == (False, False, "")
    assert honest.broken is not None
    assert 0.5 < honest.broken <= 1
    for name, by in (("noise", "D13"), ("state", "D13"), ("cut", "refused: .*a cut graph")):
        one = found[name]
        assert (one.masked, one.flagged, one.broken, one.passed) == (True, True, None, True)
        assert re.search(by, one.by)


def test_an_honest_network_that_is_found_unfit_fails_and_does_not_stop_the_rest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    change = CONTROLS["stale state"].change
    found = outcomes(
        monkeypatch,
        tmp_path,
        "smoke",
        first=Control(controls._FIRST, masked=False, change=change),
        second=Control(controls._FIRST, masked=True, change=change),
    )
    first = found["first"]
    assert (first.flagged, first.broken, first.passed) == (True, None, False)
    assert "D13" in first.by
    assert found["second"].passed


@pytest.mark.parametrize("word", ["supported", NOT_EVALUATED])
def test_it_is_told_what_the_attacks_find_of_what_is_planted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, word: Word
) -> None:
    rows: list[dict[str, Any]] = [
        {"code": "D5", "value": 0.5, "says": "another"},
        {"code": "D21", "value": 1.0, "says": "16 of 16"},
    ]
    verdict, fell = Verdict(word, (), (), ()), Interval(0.9, 0.7, 1.0, 18, 20)
    told = SimpleNamespace(verdict=verdict, asr_conditional=fell, slack=None, findings=rows)
    monkeypatch.setattr(controls, "evaluate", lambda *_, **__: told)
    one = Control(controls._FIRST, masked=False)
    assert outcomes(monkeypatch, tmp_path, "quick", one=one)["one"].power == "16 of 16"
    rows[1]["value"] = None
    assert outcomes(monkeypatch, tmp_path, "quick", one=one)["one"].power == ""
