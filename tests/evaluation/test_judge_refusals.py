"""What the judge refuses, naming it, and what it leaves as it was, whatever happens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small import digits, trained, untouched
from torch import Tensor

from spikeproof.attacks.fgsm import FGSM
from spikeproof.encoders.direct import Direct
from spikeproof.errors import SpikeproofError
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluation.judge import Case, attack_rows, clean_rows
from spikeproof.losses import cross_entropy
from spikeproof.rules.atan import ATan
from spikeproof.threats.l2 import L2
from spikeproof.threats.linf import Linf
from spikeproof.types import Objective, Threat
from spikeproof.victims.batch import Batch
from spikeproof.victims.victim import Victim

X, Y, IDS = digits(8)
ESTIMATOR = WhiteBox(ATan())
CASES = {"fgsm": Case(FGSM(), ESTIMATOR, cross_entropy)}
THREATS: dict[str, Threat] = {"0.1": Linf(0.1)}


def rows_of(victim: Victim, *, threats: Any = THREATS, cases: Any = CASES) -> list[dict[str, Any]]:
    return attack_rows(victim, Batch.of(victim, X, Y, IDS, 0), evaluation="pixels", threats=threats, cases=cases)


class Careless:
    """Leaves the ball, the box, or the numbers."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __call__(self, f: Objective, x0: Tensor, threat: Threat, estimator: Any, keys: Tensor) -> Tensor:
        x = x0.clone()
        x[-1, ..., 4, 5] = {"ball": (x0[-1, ..., 4, 5] + 0.2) % 1, "box": -0.05, "nan": float("nan")}[self.how]
        return x


@pytest.mark.parametrize("surface", ["pixels", "encoded"])
@pytest.mark.parametrize("how", ["ball", "box", "nan"])
def test_an_attack_that_cheats_is_refused_by_name(how: str, surface: Any) -> None:
    cases = {"sly": Case(Careless(how), ESTIMATOR, cross_entropy)}
    with pytest.raises(SpikeproofError, match=r"from attack 'sly'.*project"):
        rows_of(trained(), threats={"0.1": Linf(0.1, surface=surface)}, cases=cases)


def test_an_attackers_encoder_of_another_forward_is_refused() -> None:
    cases = {"fgsm": Case(FGSM(), ESTIMATOR, cross_entropy, Direct())}
    with pytest.raises(SpikeproofError, match="attacker's encoder"):
        rows_of(trained("phase"), cases=cases)


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (X[:4] * float("nan"), Y[:4], "pixels in"),
        (X[:4] * 2, Y[:4], "pixels in"),
        (X[:4].expand(-1, 3, -1, -1), Y[:4], r"images of shape \(B,1,H,W\)"),
        ((255 * X[:4]).to(torch.uint8), Y[:4], "floating-point"),
        (X[:4], Y[:4] + 7, r"labels in 0\.\.9"),
        (X[:4], Y[:4] - 9, r"labels in 0\.\.9"),
        (X[:4], Y[:4].float(), "integer labels"),
        (X[:4], Y[:3], "4 integer labels"),
    ],
)
def test_images_and_labels_that_do_not_fit_are_refused(x: Tensor, y: Tensor, words: str) -> None:
    victim = trained()
    with untouched(victim):
        with pytest.raises(SpikeproofError, match=words):
            attack_rows(victim, Batch.of(victim, x, y, IDS[:4], 0), evaluation="e", threats=THREATS, cases=CASES)
        with pytest.raises(SpikeproofError, match=words):
            clean_rows(victim, Batch.of(victim, x, y, IDS[:4], 0), split="test")


def test_a_victim_in_train_mode_is_refused() -> None:
    victim = trained().train()
    with pytest.raises(SpikeproofError, match="train mode"):
        rows_of(victim)
    with pytest.raises(SpikeproofError, match="train mode"):
        clean_rows(victim, Batch.of(victim, X, Y, IDS, 0), split="test")


class Bang:
    """An attack that fails after having asked for a gradient."""

    def __call__(self, f: Objective, x0: Tensor, threat: Threat, estimator: Any, keys: Tensor) -> Tensor:
        estimator(f, x0, estimator.init(x0), 0)
        raise KeyError("bang")


@pytest.mark.parametrize("encoder", ["direct", "poisson"])
def test_the_victim_is_left_as_it_was(encoder: str) -> None:
    victim = trained(encoder)
    x = X.clone()
    with untouched(victim):
        rows_of(victim, threats={"0.1": L2(0.1), "0.2": Linf(0.2, surface="encoded")})
        with pytest.raises(KeyError, match="bang"):
            rows_of(victim, cases={"bang": Case(Bang(), ESTIMATOR, cross_entropy)})
    assert torch.equal(X, x)
