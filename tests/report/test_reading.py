"""Each sentence stands exactly where its rule holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from spikeproof.report import _reading
from spikeproof.report._summary import headline_of, summarise

Make = Callable[..., Any]


def read(cells: list[Any]) -> str:
    headline = headline_of(cells)
    return " ".join(_reading.read(summarise(cells, headline), headline))


def warn(cells: list[Any]) -> str:
    headline = headline_of(cells)
    return " ".join(_reading.warnings(summarise(cells, headline), headline))


def test_a_vanilla_cell_that_stands_is_named(make_cell: Make) -> None:
    text = read([make_cell("weak", strength=30.0), make_cell("standing", strength=5.0)])
    assert "Not every vanilla cell is broken (under 20.0\xa0%) at eps 8/255 by PGD" in text
    assert "PGD: standing (80.0\xa0%) stands." in text
    assert "the evaluation bites" not in text


def test_without_a_vanilla_cell_nothing_shows_that_the_evaluation_bites(make_cell: Make) -> None:
    assert "No vanilla cell was measured at eps 8/255" in read([make_cell("a", defence="trades")])


def test_the_most_robust_and_the_most_accurate_are_told_apart(make_cell: Make) -> None:
    apart = [make_cell("robust", accuracy=0.7, strength=2.0), make_cell("accurate", accuracy=0.95, strength=30.0)]
    assert "The highest worst-case robust accuracy is that of robust, 70.0" in read(apart)
    assert "The most accurate on clean inputs is another, accurate, 95.0" in read(apart)
    assert "overlap it" not in read(apart)
    both = [make_cell("best", accuracy=0.95, strength=2.0), make_cell("near", accuracy=0.9, strength=2.0)]
    assert "It is also the most accurate on clean inputs" in read(both)
    assert "the intervals of 1 of the 1 other cells overlap it" in read(both)


def test_a_rank_correlation_needs_five_cells_and_has_its_sign(make_cell: Make) -> None:
    cells = [make_cell(f"c{n}", strength=5.0 + 5 * n, sparsity=0.5 - 0.1 * n) for n in range(5)]
    text = read(cells)
    assert "a sparser input gradient (Gini) goes with more robust accuracy (Spearman's rho 1.00" in text
    assert "a larger input gradient (l1) goes with less robust accuracy (Spearman's rho -1.00" in text
    headline = headline_of(cells)  # where the page tests that seed by seed, it says so there alone
    assert "Spearman" not in " ".join(_reading.read(summarise(cells, headline), headline, tested=True))
    assert "Spearman" not in read(cells[:4])
    assert "Spearman" not in read([make_cell(f"c{n}") for n in range(5)])  # nothing varies


def test_accuracy_that_rises_with_eps_is_a_warning(make_cell: Make) -> None:
    cell = make_cell("a")
    assert "rises" not in warn([cell])
    for row in cell.attack_rows:
        if row.get("eps_text") == "16/255" and row["image"] < 12:
            row["fooled"] = False
    assert "a: worst-case robust accuracy rises from eps 8/255 to 16/255." in warn([cell])


def test_cells_under_other_attacks_threats_or_images_are_a_warning(make_cell: Make) -> None:
    cell, other = make_cell("a"), make_cell("b", images=30)
    fewer = replace(other, attack_rows=[row for row in other.attack_rows if row.get("attack") != "square-500"])
    moved = [{**row, "norm": "L2"} if row["kind"] == "attack" else row for row in other.attack_rows]
    assert warn([cell, make_cell("c")]) == ""
    assert "not all attacked by the same attacks" in warn([cell, fewer])
    assert "not all evaluated on the same number of images (20 and 30)" in warn([cell, other])
    assert "has not one protocol, surface and norm" in warn([cell, replace(other, attack_rows=moved)])


def test_the_cells_are_compared_at_the_headline_of_most(make_cell: Make) -> None:
    cells = [make_cell(name) for name in "abc"]
    cells[0].config["headline"]["eps"] = "16/255"
    headline = headline_of(cells)
    assert headline is not None
    assert headline.eps == 8 / 255
    assert [summary.headline["eps_text"] for summary in summarise(cells, headline)] == ["8/255"] * 3  # type: ignore[index]


def test_labels_tell_cells_of_one_name_apart(make_cell: Make) -> None:
    cells = [make_cell("a"), make_cell("b"), make_cell("b", seed=1), replace(make_cell("b"), key="0123456789")]
    labels = [summary.label for summary in summarise(cells, None)]
    assert labels == ["a", "b · seed 0 · b-0", "b · seed 1", "b · seed 0 · 01234567"]


def test_the_area_of_a_cell_starts_at_its_clean_accuracy(make_cell: Make) -> None:
    cell = make_cell("a", images=20, accuracy=0.9, strength=30.0)
    (summary,) = summarise([cell], headline_of([cell]))
    assert summary.curve is not None
    assert [point.correct for point in summary.curve.points] == [18, 14, 2, 0]
    steps = [(2, 18, 14), (6, 14, 2), (8, 2, 0)]
    expected = sum(width * (left + right) / 2 / 20 for width, left, right in steps) / 16
    assert abs(summary.curve.area - expected) < 1e-7


def test_what_bites_is_the_plain_attack_where_the_worst_case_is_another(make_panel_cell: Make, panel_of: Make) -> None:
    """PGD leaves 17 of 20 standing, the whole panel 3: it is PGD that has not broken the network."""
    text = read([make_panel_cell("a", panel_of(kept=3), gradients=False)])
    assert "Not every vanilla cell is broken (under 20.0\xa0%) at eps 0.15 by PGD: a (65.0\xa0%) stands." in text
