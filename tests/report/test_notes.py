"""Sentences and entries that stand only where something is as it should not be: each on cells made so."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from made import made

from spikeproof.report import _reading, _tradeoff_text
from spikeproof.report._examined import generalisation_table
from spikeproof.report._summary import Summary, headline_of, summarise
from spikeproof.report._tables import protocols_table
from spikeproof.report._text import MISSING
from spikeproof.report._tradeoff import answer
from spikeproof.report.sections import sparsity

Make = Callable[..., Any]
TWO = ("vanilla", "adversarial")
"""Two knobs, two pools and three seeds each: 24 networks, 8 configurations."""


def summaries(cells: list[Any]) -> list[Summary]:
    return summarise(cells, headline_of(cells))


def noted(cells: list[Any]) -> str:
    answers = answer(summaries(cells))
    assert answers is not None
    return " ".join(_tradeoff_text.notes(answers))


def flat(log: float, gini: float) -> float:
    return 0.3


@pytest.fixture(scope="module")
def whole(make_study: Make) -> list[Any]:
    return list(make_study(flat, defences=TWO))


def test_a_whole_study_has_no_excuse(whole: list[Any]) -> None:
    said = noted(whole)
    assert "24 networks: 8 configurations, 3 seeds" in said
    for word in ("sets", "same as another", "upper bound", "no robust accuracy", "Left out", "missing"):
        assert word not in said


@pytest.mark.parametrize(("lost", "said"), [(1, "1 cell of the grid is missing."), (2, "2 cells of the grid are miss")])
def test_missing_cells_are_counted(whole: list[Any], lost: int, said: str) -> None:
    assert said in noted(whole[lost:])


def test_networks_under_several_surrogates_are_said(whole: list[Any]) -> None:
    """The second defence's twelve run twice as long."""
    cells = copy.deepcopy(whole)
    for cell in cells[12:]:
        cell.config["steps"] = 20
    assert "of which there are 2 sets" in noted(cells)


def test_networks_that_came_out_alike_are_counted(whole: list[Any]) -> None:
    """Two configurations, three seeds each, that are two others under another knob."""
    again = [replace(c, key=f"again {c.key}", config={**c.config, "note": "again"}) for c in whole[:6]]
    assert "6 networks are the same as another of its seed" in noted(whole + again)
    assert "1 network is the same as another of its seed" in noted(whole + again[:1])


def test_a_few_upper_bounds_and_numbers_withheld_are_counted(make_study: Make, whole: list[Any]) -> None:
    """Below a quarter there is no caution: 3 of 24. An evaluation that does not hold gives no robust accuracy."""
    unsettled, withheld = (make_study(flat, defences=TWO, red=(code,)) for code in ("D22", "D3"))
    few = noted([*unsettled[:3], *whole[3:]])
    assert "The robust accuracy of 3 of 24 networks is unsettled: an upper bound." in few
    assert "deserve this caution" not in few
    assert "3 of 24 networks have no robust accuracy from an audited" in noted([*withheld[:3], *whole[3:]])


def test_an_undefended_network_that_was_not_evaluated_is_not_said_to_be_broken(
    make_panel_cell: Make, panel_of: Make
) -> None:
    """Two of its twenty images are right when clean, which is under 20 %."""
    broken = panel_of(kept=0, accuracy=0.1)
    cells = [make_panel_cell("a", broken), make_panel_cell("b", panel_of(("D3",)), seed=1)]
    (first, *_) = _reading.read(summaries(cells), headline_of(cells))
    assert first.startswith("Every vanilla cell that could be evaluated is broken")
    (first, *_) = _reading.read(summaries(cells[:1]), headline_of(cells))
    assert first.startswith("Every vanilla cell is broken")


def test_what_was_not_measured_of_a_network_is_said_beside_one_where_it_was(make_cell: Make) -> None:
    one, other = make_cell("one"), make_cell("other")
    one.attack_rows.extend(
        made("corruption", corruption="jpeg", image=i, label=0, predicted=[int(i >= 5)]) for i in range(20)
    )
    table = generalisation_table(summaries([one, other]))
    assert table is not None
    measured, absent = ([entry.main for entry in row] for row in table.rows)
    assert absent[2:] == [MISSING] * 7
    assert measured[2:5] == [MISSING] * 3
    assert measured[5:] == ["90.0\u00a0%", "25.0\u00a0%", "+65.0", "25.0\u00a0%"]  # 18 of 20 clean, 5 of 20 corrupted


def test_the_paper_s_number_stands_beside_that_of_the_same_budget(make_cell: Make) -> None:
    """At 2/255, where the headline is 8/255: the stronger attack leaves the share 0.9 (1 - 30 * 2/255) of 20 images."""
    cell = make_cell("one", paper=True)
    for row in cell.attack_rows:
        if row.get("protocol") == "paper":
            row.update(eps=float(f"{2 / 255:.9g}"), eps_text="2/255")
    table = protocols_table(summaries([cell]))
    assert table is not None
    (row,) = table.rows
    assert row[-2].main == "pixels, Linf, 2/255"
    left = sum(i < 18 * (1 - 30 * 2 / 255) for i in range(20))
    assert row[-1].main == f"{100 * left / 20:.1f}\u00a0%"


def test_gradients_in_train_mode_have_a_table_of_their_own(make_cell: Make) -> None:
    from spikeproof.report._findings import Findings

    cell = make_cell("one")
    moved = replace(cell, gradient_rows=[{**row, "batchnorm": "train"} for row in cell.gradient_rows])
    both = replace(cell, gradient_rows=[*cell.gradient_rows, *moved.gradient_rows])
    kinds = [
        [type(block).__name__ for block in sparsity.section(Findings(summaries([one]), None)).blocks]
        for one in (cell, moved, both)
    ]
    assert kinds == [["Grid"], ["Grid"], ["Grid", "Grid"]]
