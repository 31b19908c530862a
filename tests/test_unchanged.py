"""The measure of what the fast paths change, `benchmarks.unchanged`."""

from __future__ import annotations

import pytest
from benchmarks.page import ROOT
from benchmarks.unchanged import MARKS, Panel, compared

ONE = Panel("a", "w", [1, 2, 3], {"fgsm, 0": True, "fgsm, 1": False, "pgd, 1": False}, [1, 2], "supported")


def test_the_same_is_no_difference() -> None:
    assert compared(ONE, ONE) == ["a", "0 of 3", "0 of 3", "2, 2", 0, "supported"]


def test_each_difference_is_told() -> None:
    """A row that one side alone has is none to compare; images left are told apart though as many."""
    other = Panel("a", "w", [1, 2, 4], {"fgsm, 0": False, "fgsm, 1": False}, [1, 5], "unsettled")
    assert compared(ONE, other) == ["a", "1 of 3", "1 of 2", "2, 2", 2, "**supported**, **unsettled**"]


def test_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        compared(ONE, Panel("a", "w", [1], {}, [], "supported"))
    with pytest.raises(ValueError, match="two networks"):
        compared(ONE, Panel("a", "v", [1, 2, 3], {}, [], "supported"))


def test_its_table_is_on_the_page_with_no_difference_in_clean_answers() -> None:
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    lines = page.partition(MARKS[0])[2].partition(MARKS[1])[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][2:]
    assert len(rows) == 6
    assert all(row[1] == "0 of 128" for row in rows)
