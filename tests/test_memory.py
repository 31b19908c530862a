"""How many images a pass may hold: from what is there, measured on the network itself."""

from __future__ import annotations

import pytest
import torch
from small import digits, trained

from spikeproof import memory
from spikeproof.attacks.pgd import PGD
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.judge import Case, outcomes
from spikeproof.losses import cross_entropy
from spikeproof.memory import available, images_that_fit
from spikeproof.rules.atan import ATan
from spikeproof.tensors import exact, image_keys
from spikeproof.threats import Linf

X, Y, IDS = digits(24)
KEYS = image_keys(0, IDS)


def test_what_is_there_is_told_in_bytes() -> None:
    assert 2**20 < available(torch.device("cpu")) <= 2**62


@pytest.mark.parametrize(("bytes_there", "least", "most"), [(2**40, 24, 24), (0, 1, 1), (2**20, 2, 23)])
def test_the_fewer_bytes_the_fewer_images(
    monkeypatch: pytest.MonkeyPatch, bytes_there: int, least: int, most: int
) -> None:
    monkeypatch.setattr(memory, "available", lambda device: bytes_there)
    assert least <= images_that_fit(trained(), X, KEYS) <= most


def test_what_fits_is_in_proportion_to_memory_and_to_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    many, keys = X.repeat(40, 1, 1, 1), KEYS.repeat(40)
    found = {}
    for steps in (2, 8):
        for there in (2**21, 2**22):
            monkeypatch.setattr(memory, "available", lambda device, there=there: there)
            found[steps, there] = images_that_fit(trained(steps=steps), many, keys)
    assert found[2, 2**22] == pytest.approx(2 * found[2, 2**21], abs=1)
    assert found[2, 2**22] == pytest.approx(4 * found[8, 2**22], rel=0.1)


def test_parts_give_the_rows_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    victim = trained("phase")
    right = victim(X, exact, KEYS).argmax(1) == Y
    batch = (X[right], Y[right], KEYS[right])
    case = Case(PGD(steps=4), WhiteBox(ATan()), cross_entropy)
    whole = outcomes(victim, *batch, "pgd", case, Linf(0.05))
    monkeypatch.setattr("spikeproof.judge.images_that_fit", lambda victim, x, keys: min(len(x), 5))
    parts = outcomes(victim, *batch, "pgd", case, Linf(0.05))
    assert [row["fooled"] for row in parts] == [row["fooled"] for row in whole]
    assert [row["forwards"] for row in parts] == [row["forwards"] for row in whole]
