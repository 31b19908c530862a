"""The sentences on the cells that are packed with the package: names of attacks are those that studies have."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import packed
import pytest

from spikeproof.report import _reading
from spikeproof.report._summary import Summary


def standing(cell: Any, attack: str) -> float:
    """The share of images that one attack of the headline leaves right, straight from the rows."""
    at = cell.config["headline"]
    rows = [
        row for row in cell.rows()
        if row["kind"] == "attack" and row["attack"] == attack and row["evaluation"] == at["evaluation"]
        and row["eps_text"] == at["eps"]
    ]  # fmt: skip
    return sum(row["predicted"] == row["label"] and not row["fooled"] for row in rows) / len(rows)


class Read(NamedTuple):
    """The cells of a packed study, their summaries, and what is said of them; nothing of it is to be changed."""

    cells: list[Any]
    found: list[Summary]
    text: str
    warnings: str


@cache
def read(study: str) -> Read:
    cells, headline, found = packed.study(study)
    told = (" ".join(say(found, headline)) for say in (_reading.read, _reading.warnings))
    return Read(cells, found, *told)


@pytest.mark.parametrize("study", ["pooling-digits", "paper-cifar10-short"])
def test_it_is_pgd_that_breaks_or_not(study: str) -> None:
    cells, found, text, _ = read(study)
    assert {cell.plain for cell in found} == {"pgd-20"}
    stand = [
        (summary, share) for summary, cell in zip(found, cells, strict=True)
        if summary.defence == "vanilla" and (share := standing(cell, "pgd-20")) >= 0.2
    ]  # fmt: skip
    assert "by PGD" in text
    assert "by the attacks" not in text
    assert ("Not every vanilla cell is broken" in text) == bool(stand)
    assert ("the evaluation bites" in text) == (not stand)
    if len(stand) > _reading._NAMED:
        assert f"{len(stand)} of {sum(one.defence == 'vanilla' for one in found)} stand" in text
        return
    for summary, share in stand:
        sign = "at most " if summary.bound else ""
        assert f"{summary.label} ({sign}{100 * share:.1f}\u00a0%" in text


def test_the_best_are_named() -> None:
    _, found, text, _ = read("pooling-digits")
    robust = max(found, key=lambda cell: (cell.worst() or (0.0,))[0])
    accurate = max(found, key=lambda cell: (cell.clean("test") or (0.0,))[0])
    assert f"The highest worst-case robust accuracy is that of {robust.label}, at most" in text
    assert "other cells overlap it." in text
    assert f"The most accurate on clean inputs is another, {accurate.label}," in text


def test_other_attacks_are_a_warning() -> None:
    cells, _, _, warnings = read("paper-cifar10-short")
    assert len({frozenset(row["attack"] for row in cell.rows() if row.get("group")) for cell in cells}) > 1
    assert "not all attacked by the same attacks" in warnings


def test_there_is_no_rank_correlation_of_bounds_alone() -> None:
    """All forty panels are unsettled, so every number of theirs is a bound."""
    _, found, text, _ = read("pooling-digits")
    assert all(cell.bound for cell in found if cell.worst() is not None)
    assert "Spearman" not in text
