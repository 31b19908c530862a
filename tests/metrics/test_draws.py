"""Verdicts on a random code: what the majority, all, and the mean of the fresh draws say."""

from __future__ import annotations

from typing import Any

import pytest
from made import made

from spikeproof.metrics.robustness import summarise


def row(image: int, attack: str, right: float | None, *, fooled: bool, clean: bool = True) -> dict[str, Any]:
    told = {} if right is None else {"draws_right": right}
    answer = 1 if clean else 2
    return made("attack", attack=attack, image=image, label=1, predicted=answer, fooled=fooled, **told)


def test_majority_every_and_mean_of_the_draws() -> None:
    rows = [
        row(0, "a", 1.0, fooled=False), row(0, "b", 1.0, fooled=False),
        row(1, "a", 0.9, fooled=False), row(1, "b", 0.6, fooled=False),
        row(2, "a", 0.3, fooled=True), row(2, "b", None, fooled=True),  # not attacked again: fooled already
        row(3, "a", None, fooled=True, clean=False), row(3, "b", None, fooled=True, clean=False),
    ]  # fmt: skip
    (entry,) = summarise(rows)["evaluations"]
    worst = entry["worst"]
    assert worst["robust"]["share"] == 0.5
    assert worst["every_draw"]["share"] == 0.25
    assert worst["mean_draw"] == pytest.approx((1.0 + 0.6 + 0.3 + 0.0) / 4)


def test_without_randomness_there_are_no_draws() -> None:
    (entry,) = summarise([row(0, "a", None, fooled=False)])["evaluations"]
    assert entry["worst"]["every_draw"] is None
    assert entry["worst"]["mean_draw"] is None
