"""The measure of speed, `benchmarks.sooner`: its curves, its table, and that a contender's curve is its rows."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from benchmarks import sooner
from benchmarks.sooner import Curve, Point, Subject

from spikeproof.evaluation.panel import evaluate
from spikeproof.rows import AttackRow, of_kind
from spikeproof.rules.atan import ATan

CURVE = Curve((Point(1.0, 2, 10), Point(3.0, 2, 30), Point(4.0, 7, 50)))


def test_a_curve_tells_when_a_count_was_reached_and_what_was_reached_when() -> None:
    assert [CURVE.reaches(broken) for broken in (0, 2, 3, 7, 8)] == [1.0, 1.0, 4.0, 4.0, None]
    assert [CURVE.at(seconds) for seconds in (0.5, 1.0, 3.9, 4.0, 9.0)] == [0, 2, 2, 7, 7]
    assert CURVE.end == Point(4.0, 7, 50)


def row(contender: str, turn: int, *points: tuple[float, int, int]) -> dict[str, Any]:
    return {"round": turn, "network": "W2", "eps": "0.05", "contender": contender, "images": 10, "points": points}


def test_the_table_compares_rounds_with_each_other() -> None:
    """AutoAttack breaks 4, the last of them after 80 and 90 s, and ends after 100 and 120; the tier breaks 4 after 2
    and 3 s, and 6 in the end."""
    theirs = [row("autoattack", 0, (80, 4, 50), (100, 4, 90)), row("autoattack", 1, (90, 4, 50), (120, 4, 90))]
    ours = [row("quick", 0, (2, 5, 9), (8, 6, 20)), row("quick", 1, (3, 4, 9), (9, 6, 20))]
    never = [row("apgd50", 0, (5, 3, 9)), row("apgd50", 1, (5, 4, 9))]
    lines = sooner.table([*theirs, *ours, *never]).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert cells[0] == ["W2, 0.05, 10", sooner.CONTENDERS["autoattack"], "6", "9", "110.0", "85.0", "", "", "6"]
    assert cells[1] == ["", "`quick`", "4", "2", "8.5", "2.5", "45.0", "35.0", "4"]
    assert cells[2][5:8] == ["never", "", ""]
    assert {len(line) for line in cells} == {9}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """At a budget at which most images fall, and not all at once."""
    return sooner.subject("W2", "0.07", 6, None, tmp_path_factory.mktemp("sooner"))


def test_a_tiers_curve_ends_at_its_worst_case(digits: Subject) -> None:
    curve, (victim, batch) = sooner.run("smoke", digits), (digits.victim, digits.batch)
    found = evaluate(victim, batch.x, batch.y, tier="smoke", eps="0.07", rule=ATan(), ids=batch.ids)
    attacks = of_kind(found.rows, AttackRow)
    assert curve.end.broken == len({row["image"] for row in attacks if row["fooled"]})
    assert curve.end.passes == sum(row["forwards"] + row["backwards"] for row in attacks) > 0
    assert [point.broken for point in curve.points] == sorted(point.broken for point in curve.points)


def test_restarts_go_on_with_what_is_left(digits: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []
    stood: list[list[int]] = []
    judged = sooner.outcomes

    def spy(victim: Any, batch: Any, *rest: Any) -> Any:
        rows = judged(victim, batch, *rest)
        seen.append(batch.ids.tolist())
        stood.append([image for image, row in zip(seen[-1], rows, strict=True) if not row["fooled"]])
        return rows

    monkeypatch.setattr(sooner, "outcomes", spy)
    pieces = []
    for piece in sooner.apgd50(digits):
        pieces.append(piece)
        if len(pieces) == 3:
            break
    assert [6 - len(ids) for ids in stood] == [broken for broken, _ in pieces]
    assert seen[1:] == stood[: len(seen) - 1]
    assert torch.get_num_threads() == 1


def test_the_page_has_the_table_of_the_curves_that_are_kept() -> None:
    about, *rows = [json.loads(line) for line in sooner.KEPT.read_text(encoding="utf-8").splitlines()]
    assert sooner.page(about, rows) in (sooner.ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
