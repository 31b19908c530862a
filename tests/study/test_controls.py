"""The controls: each mask does to a network what it is said to do, and honest networks are told from masked ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from small import digits, trained, untouched
from torch import Tensor

from spikeproof import parts
from spikeproof.data.digits import Digits
from spikeproof.rules.atan import ATan
from spikeproof.store.store import Store
from spikeproof.study import controls
from spikeproof.study.controls import CONTROLS, Control, Outcome, PooledResNet, run_controls
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
    assert (kinds.count(False), kinds.count(True)) == (3, 10)
    victim = trained()
    assert all(control.change(victim) is victim for control in CONTROLS.values() if not control.masked)
    assert {control.network for control in CONTROLS.values()} == set(controls._NETWORKS)


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
    assert (honest.masked, honest.flagged) == (False, False)
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
