"""Each configuration over its seeds, and a page of so many cells that names would drown it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from spikeproof.report import write
from spikeproof.report._configurations import configurations_table
from spikeproof.report._summary import Summary, headline_of, summarise

Make = Callable[..., Any]
DEFENCES = ("vanilla", "adversarial", "trades")


def by_scale(log: float, gini: float) -> float:
    return 0.3 - 0.2 * log


def summaries(cells: list[Any]) -> list[Summary]:
    return summarise(cells, headline_of(cells))


def over(values: list[float]) -> tuple[str, str]:
    """The mean, and the least to the most, as the table has them."""
    mean, *ends = (f"{100 * value:.1f}\u00a0%" for value in (math.fsum(values) / len(values), min(values), max(values)))
    return mean, " to ".join(ends)


def column(table: Any, says: str) -> int:
    return [text for text, _ in table.columns].index(says)


def worst(cell: Summary) -> float:
    found = cell.worst()
    assert found is not None
    return found.share


def l1(cell: Summary) -> float:
    found = cell.measure("image", "l1")
    assert found is not None
    assert found.value is not None
    return found.value


def test_every_number_is_that_of_the_seeds(make_study: Make) -> None:
    cells = summaries(make_study(by_scale, defences=DEFENCES, red=("D22",)))
    told = configurations_table(cells)
    assert told is not None
    centre, table = told
    groups: dict[str, list[Summary]] = {}
    for cell in cells:
        groups.setdefault(cell.name[:-3], []).append(cell)
    assert centre in groups
    assert centre.startswith("vanilla")
    assert [row[0].main for row in table.rows] == [centre, *(name for name in groups if name != centre)]
    difference = column(table, f"worst case less that of {centre}")
    quotient = column(table, f"input l1 over that of {centre}, mean of ratios")
    for row in table.rows:
        own, base = groups[row[0].main], groups[centre]
        robust = row[column(table, "worst case")]
        assert (robust.main, robust.small) == over([worst(cell) for cell in own])
        assert row[column(table, "red audits")].main == "D22 3/3"
        if row[0].main != centre:
            pairs = list(zip(own, base, strict=True))
            less = math.fsum(worst(a) - worst(b) for a, b in pairs) / 3
            assert row[difference].main == f"{100 * less:+.1f}"
            assert row[quotient].main == f"{math.fsum(l1(a) / l1(b) for a, b in pairs) / 3:.4g}"


def test_without_repeated_seeds_or_an_undefended_one_there_is_no_table(make_study: Make) -> None:
    assert configurations_table(summaries(make_study(by_scale, defences=DEFENCES[:2], seeds=1))) is None
    assert configurations_table(summaries(make_study(by_scale, defences=DEFENCES[1:3]))) is None


def test_combined_defences_have_the_names_of_all(make_study: Make) -> None:
    cells = make_study(by_scale, defences=("vanilla",))
    cells[0].config["defence"] = {"name": "sr", "base": {"name": "adversarial"}}
    cells[1].config["encoder"] = {"name": "low_pass", "drop": 0.25}
    cells[2].config["defence"] = {"name": "dsd", "base": {"name": "vanilla"}}
    assert [cell.defence for cell in summaries(cells)[:4]] == ["adversarial + sr", "low_pass", "dsd", "vanilla"]


def test_an_encoder_says_itself_whether_it_is_a_defence(make_study: Make) -> None:
    """By its knob. A user's own says nothing: a page is made of data, and what they name is never imported."""
    cells = make_study(by_scale, defences=("vanilla",))
    names = ("low_pass", f"{__name__}:Tuned", "gone.with_the_wind:Encoder", "gone")
    for cell, name in zip(cells, names, strict=False):
        cell.config["encoder"] = {"name": name}
    assert [cell.defence for cell in summaries(cells)[:4]] == ["low_pass", "vanilla", "vanilla", "vanilla"]


def test_a_page_of_many_cells_counts_first_and_names_under_folds(make_study: Make, tmp_path: Path) -> None:
    cells = make_study(by_scale, red=("D22",))
    page = write(cells, tmp_path, title="t").read_text(encoding="utf-8")
    tree = ElementTree.fromstring(page)
    shown = " ".join(" ".join(tree.itertext()).split())
    assert f"{len(cells)} of {len(cells)} panels; red: D22 in {len(cells)}." in shown
    for parent in list(tree.iter()):
        for child in [one for one in parent if one.tag.endswith(("details", "svg"))]:  # marks are named on hover
            parent.remove(child)
    open_text = " ".join(tree.itertext())
    assert len(cells) == 84
    named = [cell.config["name"] for cell in cells if cell.config["name"] in open_text]
    assert sum(not name.startswith("vanilla") for name in named) <= 3  # the best; and undefended ones that stand
    figure = (tmp_path / "figures" / "curves.svg").read_text(encoding="utf-8")
    assert 'height="' in figure
    assert all(figure.count(f">{name}<") <= 1 for name in DEFENCES)


def test_one_name_for_two_configurations_is_told_apart(make_study: Make) -> None:
    """As after a study was changed and run again into its folder."""
    first, then = (make_study(by_scale, defences=("vanilla",), width=width) for width in (8, 16))
    told = configurations_table(summaries([*first, *then]))
    assert told is not None
    labels = [row[0].main for row in told[1].rows]
    assert len(labels) == len(set(labels)) == 8
    assert sum(label.endswith(" (2)") for label in labels) == 4
    assert {row[column(told[1], "seeds")].main for row in told[1].rows} == {"3"}
