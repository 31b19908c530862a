"""Counting robust images: against exact fractions, brute force, and every refusal."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import made

from spikeproof.errors import SpikeproofError
from spikeproof.metrics import robustness

Row = dict[str, Any]


def at_least(correct: int, total: int, share: Fraction) -> Fraction:
    """P(X >= correct) of a binomial, in exact arithmetic."""
    terms = (math.comb(total, k) * share**k * (1 - share) ** (total - k) for k in range(correct, total + 1))
    return sum(terms, Fraction(0))


def bisect(rises_above: Callable[[Fraction], bool]) -> float:
    """The share in [0,1] where a monotone condition turns true, to 2^-40."""
    low, high = Fraction(0), Fraction(1)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if rises_above(middle) else (middle, high)
    return float(high)


def attacked(image: int, attack: str = "pgd", *, label: int = 0, predicted: int = 0, **changes: Any) -> Row:
    row = {
        "evaluation": "pixels", "protocol": "pixels", "surface": "pixels", "norm": "Linf",
        "eps": 8 / 255, "eps_text": "8/255", "attack": attack, "image": image, "label": label,
        "predicted": predicted, "attacked": 0, "fooled": predicted != label, "forwards": 10, "backwards": 9,
        "zero_gradient": False,
    }  # fmt: skip
    if predicted != label:
        row |= {"skipped": True, "forwards": 0, "backwards": 0}
    return made("attack", **(row | changes))


def clean_row(image: int, split: str = "test", predicted: int = 0) -> Row:
    return {"kind": "clean", "split": split, "image": image, "label": 0, "predicted": predicted, "margin": 1.0}


@pytest.mark.parametrize(("correct", "total"), [(0, 5), (5, 5), (1, 2), (3, 10), (1, 17), (29, 40)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_interval_inverts_the_exact_binomial_tails(correct: int, total: int, level: float) -> None:
    tail = (1 - Fraction(level)) / 2
    low = bisect(lambda p: at_least(correct, total, p) >= tail) if correct else 0.0
    high = bisect(lambda p: at_least(correct + 1, total, p) >= 1 - tail) if correct < total else 1.0

    found = robustness.clopper_pearson(correct, total, level)

    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
    assert found[0] == correct / total
    assert found[3:] == (correct, total)


@pytest.mark.parametrize(("correct", "total", "level"), [(0, 0, 0.95), (3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)])
def test_an_impossible_count_or_level_is_refused(correct: int, total: int, level: float) -> None:
    with pytest.raises(SpikeproofError, match="expected"):
        robustness.clopper_pearson(correct, total, level)


OUTCOMES = st.lists(st.tuples(st.booleans(), st.lists(st.booleans(), min_size=3, max_size=3)), min_size=1, max_size=12)


@given(outcomes=OUTCOMES, order=st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_worst_case_is_brute_force_over_images_in_any_order(outcomes: Any, order: Any) -> None:
    names = ("fgsm", "pgd", "square")
    rows = [
        attacked(image, name, predicted=0 if right else 1, fooled=fooled or not right)
        for image, (right, verdicts) in enumerate(outcomes)
        for name, fooled in zip(names, verdicts, strict=True)
    ]
    order.shuffle(rows)
    right = sum(ok for ok, _ in outcomes)
    kept = sum(ok and not any(verdicts) for ok, verdicts in outcomes)

    assert robustness.robust(rows, "pixels", 8 / 255)[3:] == (kept, len(outcomes))
    assert robustness.asr_all(rows, "pixels", 8 / 255).share == pytest.approx(1 - kept / len(outcomes))
    conditional = robustness.asr_conditional(rows, "pixels", 8 / 255)
    assert (None if conditional is None else conditional.share) == (
        pytest.approx((right - kept) / right) if right else None
    )
    for index, name in enumerate(names):
        alone = sum(ok and not verdicts[index] for ok, verdicts in outcomes)
        assert robustness.robust(rows, "pixels", 8 / 255, name).correct == alone


def test_eighty_percent_clean_and_twenty_robust_are_two_different_success_rates() -> None:
    rows = [attacked(i, predicted=int(i >= 8), fooled=i >= 2) for i in range(10)]
    conditional = robustness.asr_conditional(rows, "pixels", 8 / 255)
    assert conditional is not None
    assert conditional.share == 0.75
    assert robustness.asr_all(rows, "pixels", 8 / 255).share == 0.8


def test_clean_accuracy_is_counted_by_split() -> None:
    rows = [clean_row(0), clean_row(1, predicted=2), clean_row(0, "train"), attacked(0)]
    found = robustness.clean(rows, "test")
    assert found is not None
    assert found[3:] == (1, 2)
    assert robustness.clean(rows, "validation") is None


def test_evaluations_are_listed_by_appearance_and_ascending_eps() -> None:
    rows = [
        attacked(0, eps=0.5, eps_text="1/2"),
        attacked(0, evaluation="events", protocol="paper", surface="encoded"),
        attacked(0, eps=0.25, eps_text="1/4"),
        attacked(0, "square", eps=0.25, eps_text="1/4"),
    ]
    found = robustness.evaluations(rows)
    assert [(e.evaluation, e.eps_text) for e in found] == [("pixels", "1/4"), ("pixels", "1/2"), ("events", "8/255")]
    assert found[0].attacks == ("pgd", "square")
    assert found[2][1:4] == ("paper", "encoded", "Linf")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([attacked(0), attacked(0)], "one row for image 0, evaluation pixels"),
        ([attacked(0), attacked(7), attacked(0, "square")], "a row of attack square for image 7"),
        ([attacked(0), attacked(0, "square", label=4, predicted=4)], "one label for image 0"),
        ([attacked(0), attacked(1, norm="L2")], "one protocol, surface and norm"),
        ([clean_row(0), clean_row(0)], "one row for image 0 of split test"),
        ([{k: v for k, v in attacked(0).items() if k != "fooled"}], "the field 'fooled'"),
        ([{}], "the field 'kind'"),
    ],
)
def test_damaged_rows_are_refused_by_name(rows: list[Row], message: str) -> None:
    with pytest.raises(SpikeproofError, match=message):
        robustness.summarise(rows)


@pytest.mark.parametrize(
    ("evaluation", "eps", "attack", "message"),
    [
        ("events", 8 / 255, None, "valid: pixels"),
        ("pixels", 0.5, None, "valid: 0.03"),
        ("pixels", 8 / 255, "square", "valid: pgd"),
    ],
)
def test_what_was_not_measured_is_refused_with_what_was(evaluation: str, eps: float, attack: str, message: str) -> None:
    with pytest.raises(SpikeproofError, match=message):
        robustness.robust([attacked(0)], evaluation, eps, attack)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(SpikeproofError, match="valid: train, validation, test"):
        robustness.clean([clean_row(0)], "tests")


def test_the_summary_holds_every_number_as_plain_json() -> None:
    rows = [clean_row(i, predicted=int(i == 3)) for i in range(4)]
    rows += [attacked(i, predicted=int(i == 3), fooled=i != 0, zero_gradient=i == 1) for i in range(4)]
    rows += [attacked(i, "square", predicted=int(i == 3), fooled=i == 3, forwards=100, backwards=0) for i in range(4)]
    found = json.loads(json.dumps(robustness.summarise(rows)))
    entry = found["evaluations"][0]
    assert found["clean"]["train"] is None
    assert found["clean"]["test"]["correct"] == entry["clean"]["correct"] == 3
    assert (entry["eps_text"], entry["images"]) == ("8/255", 4)
    assert entry["worst"]["robust"]["share"] == 0.25
    assert entry["attacks"]["square"]["robust"]["share"] == 0.75
    assert entry["worst"]["asr_all"]["share"] == 0.75
    assert entry["worst"]["asr_conditional"]["share"] == pytest.approx(2 / 3)
    assert (entry["worst"]["zero_gradient"]["correct"], entry["worst"]["zero_gradient"]["total"]) == (1, 3)
    assert entry["attacks"]["square"]["zero_gradient"]["correct"] == 0
    assert (found["forwards"], found["backwards"]) == (3 * 10 + 4 * 100, 3 * 9)
    assert entry["worst"]["deployed"] is None


def test_the_deployed_verdict_needs_every_attacked_row() -> None:
    rows = [attacked(i, predicted=int(i == 3), fooled=True, attacked_deployed=int(i == 0)) for i in range(4)]
    del rows[3]["attacked_deployed"]  # a clean error was never attacked
    found = robustness.summarise(rows)["evaluations"][0]["worst"]
    assert found["deployed"]["correct"] == 2
    assert found["robust"]["correct"] == 0
    assert found["survived"]["correct"] == 0
    del rows[0]["attacked_deployed"]
    assert robustness.summarise(rows)["evaluations"][0]["worst"]["deployed"] is None


def test_no_image_right_when_clean_leaves_the_conditional_rate_undefined() -> None:
    rows = [attacked(i, predicted=1) for i in range(3)]
    worst = robustness.summarise(rows)["evaluations"][0]["worst"]
    assert worst["asr_conditional"] is None
    assert worst["zero_gradient"] is None
    assert worst["robust"]["share"] == 0.0


def test_the_area_is_the_mean_height_of_the_curve() -> None:
    assert robustness.area([0.0, 0.1, 0.4], [1.0, 0.5, 0.5]) == pytest.approx((0.1 * 0.75 + 0.3 * 0.5) / 0.4)
    assert robustness.area([2, 5], [0.3, 0.3]) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("eps", "accuracy"),
    [([0.0], [1.0]), ([0.0, 1.0], [1.0]), ([1.0, 0.0], [1.0, 0.5]), ([0.0, 0.0], [1.0, 0.5]),
     ([0.0, math.inf], [1.0, 0.5]), ([0.0, 1.0], [1.0, 1.5]), ([0.0, 1.0], [math.nan, 0.5])],
)  # fmt: skip
def test_a_curve_without_an_area_is_refused(eps: list[float], accuracy: list[float]) -> None:
    with pytest.raises(SpikeproofError, match="expected"):
        robustness.area(eps, accuracy)


def test_an_image_wrong_when_clean_can_survive_but_is_never_robust() -> None:
    rows = [attacked(0, predicted=1, fooled=False), attacked(1, fooled=False)]
    worst = robustness.summarise(rows)["evaluations"][0]["worst"]
    assert worst["survived"]["correct"] == 2
    assert worst["robust"]["correct"] == 1


def test_an_eps_rounded_in_the_rows_is_found_by_its_exact_value() -> None:
    assert robustness.robust([attacked(0, eps=float(f"{7 / 255:.9g}"))], "pixels", 7 / 255).correct == 1


def test_rows_that_do_not_speak_of_the_gradient_leave_its_share_unknown() -> None:
    rows = [{k: v for k, v in attacked(0).items() if k != "zero_gradient"}]
    assert robustness.summarise(rows)["evaluations"][0]["worst"]["zero_gradient"] is None
