"""Studies made so that the answer is known: the verdicts must follow, and must not where they may not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from made import made

from spikeproof.metrics.resampling import NOTHING, Bounds, Estimate
from spikeproof.report import _claims, _tradeoff, _tradeoff_text, write
from spikeproof.report._claims import CONTRADICTED, SUPPORTED, UNDECIDED, decide
from spikeproof.report._design import OUTCOMES, design
from spikeproof.report._summary import Summary, headline_of, summarise

Make = Callable[..., Any]
DEFENCES = ("vanilla", "adversarial", "trades", "mart", "sr", "rat", "tgo")
IMAGES = 60


def by_scale(log: float, gini: float) -> float:
    return 0.3 - 0.2 * log


def by_shape(log: float, gini: float) -> float:
    return 0.3 + 1.2 * (gini - 0.55)


def summaries(cells: list[Any]) -> list[Summary]:
    return summarise(cells, headline_of(cells))


def answered(cells: list[Any]) -> _tradeoff.Answers:
    answers = _tradeoff.answer(summaries(cells))
    assert answers is not None
    return answers


def verdicts(answers: _tradeoff.Answers) -> list[str]:
    return [claim.verdict for claim in answers.claims]


def test_where_scale_decides_the_page_says_scale(make_study: Make) -> None:
    answers = answered(make_study(by_scale))
    assert verdicts(answers) == [UNDECIDED, SUPPORTED, SUPPORTED, SUPPORTED, UNDECIDED]
    assert answers.unit == "defences"
    assert (answers.bounds, answers.robust) == (0, 84)


def test_where_shape_decides_the_page_says_shape(make_study: Make) -> None:
    answers = answered(make_study(by_shape))
    assert verdicts(answers) == [SUPPORTED, SUPPORTED, CONTRADICTED, SUPPORTED, SUPPORTED]


def test_where_the_opposite_holds_the_claim_is_contradicted(make_study: Make) -> None:
    answers = answered(make_study(lambda log, gini: by_shape(log, 1.1 - gini)))
    assert verdicts(answers)[0] == CONTRADICTED
    assert verdicts(answers)[4] == CONTRADICTED


def test_nothing_is_decided_by_networks_that_all_fall(make_study: Make) -> None:
    answers = answered(make_study(lambda *_: -1.0))
    assert verdicts(answers) == [UNDECIDED, SUPPORTED, UNDECIDED, SUPPORTED, UNDECIDED]
    assert answers.claims[0].why == "robust accuracy is the same in all networks"


def test_a_panel_that_does_not_hold_gives_no_robust_accuracy(make_study: Make) -> None:
    answers = answered(make_study(by_shape, red=("D13",)))
    assert answers.robust == 0
    assert answers.claims[0].why == "no robust accuracy at the headline comes from an audited panel that holds"
    assert verdicts(answers)[1] == SUPPORTED


def test_many_unsettled_numbers_are_said(make_study: Make) -> None:
    answers = answered(make_study(by_shape, red=("D22",)))
    assert answers.cautious
    assert any("84 of 84 networks is unsettled" in note for note in _tradeoff_text.notes(answers))
    assert answers.variants[-1].robust.plain.value is None


def test_two_seeds_decide_nothing_and_few_defences_are_resampled_one_by_one(make_study: Make) -> None:
    answers = answered(make_study(by_shape, defences=DEFENCES[:3], seeds=2))
    assert set(verdicts(answers)) == {UNDECIDED}
    assert answers.claims[0].why == "2 of the 3 seeds that an interval needs"
    assert answers.unit == "configurations"


def test_architectures_that_disagree_are_no_verdict(make_study: Make) -> None:
    """One follows shape, the other its opposite; pooled by rank within each, neither wins by being large."""
    opposite = make_study(lambda log, gini: by_shape(log, 1.1 - gini), width=16)
    answers = answered(make_study(by_shape) + opposite)
    assert answers.design.architectures == ("small sew resnet width 8", "small sew resnet width 16")
    assert verdicts(answers)[0] == UNDECIDED


def test_seeds_are_replicates_and_pools_are_one_architecture(make_study: Make) -> None:
    grid = design(summaries(make_study(by_scale)))
    assert (len(grid.architectures), len(grid.configurations), len(grid.seeds)) == (1, 28, 3)
    assert grid.table(OUTCOMES["clean"][1]).shape == (3, 28)
    assert grid.configurations[0].label == "vanilla-1-max"


def test_a_network_that_learnt_nothing_is_left_out_and_named(make_study: Make) -> None:
    cells = make_study(by_scale)
    for row in cells[5].attack_rows:
        if row["kind"] == "clean":
            row["predicted"] = 1
    answers = answered(cells)
    assert len(answers.design.cells) == 83
    assert any("vanilla-1-avg-s2" in note for note in _tradeoff_text.notes(answers))


def test_corruptions_count_where_they_were_measured(make_study: Make) -> None:
    """The n-th cell keeps n of ten images under the mildest severity of five, and none under the others."""
    cells = make_study(by_scale, defences=DEFENCES[:3])
    assert not np.isfinite(design(summaries(cells)).table(OUTCOMES["corrupted"][1])).any()
    for n, cell in enumerate(cells):
        cell.attack_rows.extend(
            made("corruption", corruption="jpeg", image=i, label=0, predicted=[int(i >= n), 1, 1, 1, 1])
            for i in range(10)
        )
    found = design(summaries(cells)).table(OUTCOMES["corrupted"][1])
    assert found[:, 0].tolist() == pytest.approx([0.0, 0.02, 0.04])


def test_the_front_has_its_chances(make_study: Make) -> None:
    (front,) = answered(make_study(by_shape)).fronts
    assert len(front.marks) == 28
    assert any(mark.on_front for mark in front.marks)
    best = max(front.marks, key=lambda mark: mark.robust)
    assert best.on_front
    assert best.chance > 0.2
    assert min(mark.chance for mark in front.marks) == 0.0


HIGH, LOW, AROUND = Bounds(0.1, 0.5), Bounds(-0.5, -0.1), Bounds(-0.1, 0.2)


@pytest.mark.parametrize(
    ("seeds", "units", "verdict", "why"),
    [
        (HIGH, HIGH, SUPPORTED, "both intervals lie above 0"),
        (LOW, LOW, CONTRADICTED, "both intervals lie below 0"),
        (HIGH, AROUND, UNDECIDED, "hangs on which defences"),
        (HIGH, LOW, UNDECIDED, "hangs on which defences"),
        (AROUND, HIGH, UNDECIDED, "other seeds could turn it round"),
        (HIGH, None, UNDECIDED, "fewer than 6 defences"),
        (None, HIGH, UNDECIDED, "of the 3 seeds"),
    ],
)
def test_the_rule(seeds: Bounds | None, units: Bounds | None, verdict: str, why: str) -> None:
    got = decide(Estimate(0.3, seeds, units, 3, 9), 1, "defences", "")
    assert got[0] == verdict
    assert why in got[1]
    mirrored = decide(Estimate(0.3, seeds, units, 3, 9), -1, "defences", "")[0]
    assert mirrored == {SUPPORTED: CONTRADICTED, CONTRADICTED: SUPPORTED, UNDECIDED: UNDECIDED}[verdict]
    assert decide(NOTHING, 1, "defences", "all alike") == (UNDECIDED, "all alike")
    assert _claims.unless_apart(got, [SUPPORTED, CONTRADICTED])[0] == UNDECIDED


def test_the_page_of_a_study_has_the_section_with_its_figures(make_study: Make, tmp_path: Path) -> None:
    page = write(make_study(by_scale, defences=DEFENCES[:2]), tmp_path, title="t").read_text(encoding="utf-8")
    text = " ".join(" ".join(ElementTree.fromstring(page).itertext()).split())
    assert "Sparser gradients go with robustness, at fixed scale" in text
    assert "24 networks: 8 configurations, 3 seeds, 1 architecture (small sew resnet)." in text
    assert all((tmp_path / "figures" / f"{name}.svg").is_file() for name in ("shape", "forest", "pareto"))
    assert "mathdefault" not in text


def test_a_small_study_is_told_kindly_what_it_lacks(make_cell: Make, tmp_path: Path) -> None:
    page = write([make_cell("a"), make_cell("b")], tmp_path, title="t").read_text(encoding="utf-8")
    text = " ".join(" ".join(ElementTree.fromstring(page).itertext()).split())
    assert "This study has 1 of 6 configurations, 1 of 3 seeds, so nothing is tested here." in text
    assert not (tmp_path / "figures" / "forest.svg").exists()


def test_networks_are_the_same_only_in_what_was_measured(make_study: Make) -> None:
    def doubled(cells: list[Any]) -> list[Any]:
        other = [replace(c, key=f"again {c.key}", config={**c.config, "steps": 99}) for c in cells]
        return [*cells, *other]

    one = make_study(by_shape)
    assert _tradeoff_text._twins(answered(one)) == 0
    assert _tradeoff_text._twins(answered(doubled(one))) == len(one)
    blind = [replace(cell, gradient_rows=[]) for cell in one]
    assert _tradeoff_text._twins(answered(doubled(blind))) == 0


def test_what_a_claim_is_about_does_not_hang_on_its_words(make_study: Make) -> None:
    answers = answered(make_study(by_shape, defences=DEFENCES[:3], red=("D22",)))
    renamed = replace(answers, claims=[claim._replace(says="x") for claim in answers.claims])
    rows, other = (_tradeoff_text.claims_table(one).rows for one in (answers, renamed))
    assert [row[1:] for row in rows] == [row[1:] for row in other]
    assert [row[4].main == "not asked" for row in rows] == [False, False, False, True, True]
    assert [bool(row[5].caution) for row in rows] == [True, False, True, False, True]
