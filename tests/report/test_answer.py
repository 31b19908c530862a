"""What a reader meets first: names that do not lie on each other, networks by their worst case, and few words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from visible import words

from spikeproof.report import _answer, write
from spikeproof.report._labels import _apart
from spikeproof.report._readings_figure import descents
from spikeproof.report._summary import headline_of, summarise
from spikeproof.report.sections import answer

Make = Callable[..., Any]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_names_stand_a_line_apart_inside_the_figure_and_stay_where_they_may(heights: list[float]) -> None:
    wanted, line = np.sort(np.array(heights)), 0.04
    found = _apart(wanted, line)
    assert (np.diff(found) >= line - 1e-9).all()
    assert found.min() >= line / 2 - 1e-9
    assert found.max() <= 1 - line / 2 + 1e-9
    if (np.diff(wanted) >= line).all() and wanted[0] >= line / 2 and wanted[-1] <= 1 - line / 2:
        np.testing.assert_allclose(found, wanted, atol=1e-9)


def test_networks_come_by_their_worst_case_and_those_without_one_last(make_panel_cell: Make, panel_of: Make) -> None:
    cells = [
        make_panel_cell("low", panel_of(kept=2)),
        make_panel_cell("void", panel_of(["D3"])),
        make_panel_cell("high", panel_of(kept=9)),
    ]
    found = summarise(cells, headline_of(cells))
    assert [cell.label for cell in _answer.ranked(found)] == ["high", "low", "void"]
    assert "not evaluated" in _answer.sentence(found[1])
    lowest, highest = descents(found)
    assert lowest.name.startswith("low")
    assert highest.least is None or 0 <= highest.least <= highest.worst
    assert lowest.worst <= lowest.plain <= lowest.clean


@pytest.mark.usefixtures("undrawn")
def test_few_words_stand_before_the_folds(make_panel_cell: Make, panel_of: Make, tmp_path: Path) -> None:
    """Of six networks about as many as of the demo's, whose page was the measure: 1,200."""
    cells = [make_panel_cell(f"network-{n}", panel_of(["D22"], kept=n + 1)) for n in range(6)]
    page = write(cells, tmp_path, title="t").read_text(encoding="utf-8")
    assert 100 < len(words(page)) <= 1200


@pytest.mark.parametrize("total", [2, 13])
def test_upper_bounds_are_named_while_they_are_few_and_counted_then(
    total: int, make_panel_cell: Make, panel_of: Make
) -> None:
    """The caption of the main figure, and the sentence on many, whose brackets stand alone."""
    cells = [make_panel_cell(f"network-{n}", panel_of(["D22"], kept=n % 9 + 1)) for n in range(total)]
    headline = headline_of(cells)
    found = summarise(cells, headline)
    assert all(cell.bound for cell in found)
    caption = answer._bounds(found)
    assert caption == (" Unsettled, so an upper bound: " + {2: "network-0 and network-1.", 13: "all 13."}[total])
    assert answer._bounds([*found, *found[:1]]) != caption
    assert answer._bounds(found[:1]) == " Unsettled, so an upper bound: network-0."
    assert "(at most " in _answer.counted(found)
    assert "))" not in _answer.counted(found)
