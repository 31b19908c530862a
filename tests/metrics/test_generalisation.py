"""Gaps and corruptions from rows: by hand, against published intervals, and every refusal of damaged rows."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest
from made import made

from spikeproof.errors import SpikeproofError
from spikeproof.metrics import generalisation, gradients
from spikeproof.metrics._intervals import clopper_pearson, newcombe

Row = dict[str, Any]


def clean(split: str, right: int, total: int) -> list[Row]:
    return [made("clean", split=split, image=i, label=1, predicted=int(i < right)) for i in range(total)]


def robust(split: str, kept: int, right: int, total: int) -> list[Row]:
    head = {"eps": 0.1, "eps_text": "0.1", "attack": "pgd-20", "split": split, "label": 1}
    return [made("robust", **head, image=i, predicted=int(i < right), fooled=i >= kept) for i in range(total)]


def corrupted(name: str, predicted: list[list[int]]) -> list[Row]:
    return [made("corruption", corruption=name, image=i, label=1, predicted=p) for i, p in enumerate(predicted)]


@pytest.mark.parametrize(
    ("one", "other", "low", "high"),
    # Newcombe 1998, table II, method 10.
    [((56, 70), (48, 80), 0.0524, 0.3339), ((9, 10), (3, 10), 0.1705, 0.8090), ((10, 10), (0, 10), 0.6075, 1.0)],
)
def test_differences_have_the_published_intervals(
    one: tuple[int, int], other: tuple[int, int], low: float, high: float
) -> None:
    found = newcombe(clopper_pearson(*one), clopper_pearson(*other))
    assert found.gap == pytest.approx(one[0] / one[1] - other[0] / other[1])
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    turned = newcombe(clopper_pearson(*other), clopper_pearson(*one))
    assert (turned.low, turned.high) == (pytest.approx(-found.high), pytest.approx(-found.low))
    with pytest.raises(SpikeproofError, match="confidence level"):
        newcombe(clopper_pearson(*one), clopper_pearson(*other), level=1.0)


def test_the_clean_gap() -> None:
    found = generalisation.summarise([*clean("train", 56, 70), *clean("test", 48, 80)])
    assert found["clean"]["train_test"]["gap"] == pytest.approx(0.2)
    assert found["clean"]["train_validation"] is None
    assert (found["robust"], found["corruptions"]) == (None, None)
    alone = generalisation.summarise(clean("test", 4, 8))
    assert alone["clean"] == {"train_test": None, "train_validation": None}


def test_the_robust_gap_counts_clean_errors_as_broken() -> None:
    rows = [*robust("train", 6, 9, 10), *robust("test", 5, 3, 10)]  # five are not fooled, three of them right
    found = generalisation.summarise(rows)["robust"]
    assert (found["train"]["share"], found["test"]["share"]) == (0.6, 0.3)
    assert found["gap"] == pytest.approx(0.3)
    assert (found["eps_text"], found["attack"]) == ("0.1", "pgd-20")


def test_corruptions_are_averaged_over_kinds_severities_and_images() -> None:
    rows = [
        *clean("test", 3, 6),
        *corrupted("jpeg", [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]]),
        *corrupted("contrast", [[1, 1, 1, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]]),
    ]
    found = generalisation.summarise(rows)["corruptions"]
    each = [0.9, 0.2, 0.1]
    error = 1.959964 * statistics.stdev(each) / math.sqrt(3)
    assert found["images"] == 3
    assert found["accuracy"]["mean"] == pytest.approx(0.4)
    assert found["accuracy"]["low"] == pytest.approx(max(0, 0.4 - error))
    assert found["accuracy"]["high"] == pytest.approx(0.4 + error)
    assert found["clean"]["share"] == 1.0  # of the same three images
    assert found["drop"] == pytest.approx(0.6)
    assert found["kinds"]["jpeg"]["severities"] == pytest.approx([2 / 3, 2 / 3, 1 / 3, 1 / 3, 1 / 3])
    assert found["kinds"]["contrast"]["mean"] == pytest.approx(1 / 3)


def test_damaged_rows_are_refused() -> None:
    for rows in (
        [*clean("test", 1, 2), clean("test", 1, 2)[0]],
        robust("train", 1, 2, 3),
        [*clean("test", 2, 2), *corrupted("jpeg", [[1] * 5] * 2), *corrupted("contrast", [[1] * 5])],
        [*clean("test", 1, 1), *corrupted("jpeg", [[1] * 5] * 2)],
    ):
        with pytest.raises(SpikeproofError, match="run the cell anew"):
            generalisation.summarise(rows)


def test_gradients_are_averaged_by_place_and_scalar() -> None:
    def row(image: int, site: str, side: str, l1: float, gini: float | None, **more: Any) -> Row:
        head = {"image": image, "site": site, "side": side, "scalar": "ce", "batchnorm": "eval", "order": 7}
        return {**head, "summed": {"l1": l1, "gini": gini}, **more}

    tree = gradients.summarise([
        row(0, "image", "input", 2.0, 0.5), row(1, "image", "input", 0.0, None), row(2, "image", "input", 4.0, 0.7),
        row(0, "conv1", "input", 1.0, 0.1), row(0, "conv1", "output", 9.0, 0.9),
        row(0, "weights", "weight", 3.0, 0.2, masked_share=0.25), row(0, "dark", "input", 0.0, None),
    ])  # fmt: skip
    found = tree["eval"]
    assert found["image"]["ce"] == {
        "order": -2, "images": 3, "undefined": 1, "l1": pytest.approx(2.0), "gini": pytest.approx(0.6)
    }  # fmt: skip
    assert found["conv1"]["ce"]["l1"] == 1.0  # the gradient that enters, not the one that leaves
    assert found["conv1"]["ce"]["order"] == 7
    assert found["weights"]["ce"]["masked_share"] == 0.25
    assert found["dark"]["ce"]["gini"] is None
    assert gradients.summarise([]) == {}
    ragged = [row(0, "image", "input", 2.0, 0.5), {**row(1, "image", "input", 1.0, 0.1), "summed": {"l1": 1.0}}]
    for rows in (ragged, ragged[::-1]):
        with pytest.raises(SpikeproofError, match=r"'gini'.*run the cell anew"):
            gradients.summarise(rows)
