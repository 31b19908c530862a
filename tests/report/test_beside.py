"""What a page of many cells keeps beside it: nothing is lost, links lead there, and only our own files are cleared."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from spikeproof.report import _beside
from spikeproof.report._beside import FOLDER, ROWS, ROWS_A_FILE, WHOLE, Beside, clear
from spikeproof.report._blocks import Fold, Grid, Paragraph, Section
from spikeproof.report._page import render
from spikeproof.report._tables import Table, word, words


def grid(rows: int) -> Grid:
    return Grid("Numbers", Table(words("cell", "<value>"), [[word(f"c{n}"), word(f"v{n}")] for n in range(rows)]))


def page(section: Section) -> str:
    return render({"made": section}, [], {}, title="t", made="m")


@pytest.mark.parametrize("rows", [ROWS, ROWS + 1, ROWS_A_FILE, 2 * ROWS_A_FILE + 1])
def test_every_row_of_a_long_table_stands_once_in_the_files_or_on_the_page(rows: int) -> None:
    beside = Beside()
    kept = page(beside.part("made", Section("Made", [Fold("outer", "", [grid(rows)])])))
    files = [page(section) for section in beside.files.values()]
    assert len(files) == (0 if rows <= ROWS else -(-rows // ROWS_A_FILE))
    found = [
        cell.text
        for text in [kept, *files]
        for cell in ElementTree.fromstring(text).iter("td")
        if cell.text is not None
    ]
    assert found == [f"v{n}" for n in range(rows)]
    assert all(f'href="{FOLDER}/{name}"' in kept for name in beside.files)


def test_a_link_to_a_fold_that_moved_leads_into_its_file() -> None:
    beside = Beside()
    folds = [Fold(f"fold {n}", "", [Paragraph(f"text {n}")], anchor=f"at-{n}") for n in range(150)]
    kept = page(beside.part("trust", Section("Trust", folds)))
    assert "text 0" not in kept
    assert list(beside.files) == ["trust-1.html", "trust-2.html"]
    links = '<a href="#at-3"/><a href="#at-120"/><a href="#other"/>'
    assert beside.linked(links) == (
        f'<a href="{FOLDER}/trust-1.html#at-3"/><a href="{FOLDER}/trust-2.html#at-120"/><a href="#other"/>'
    )
    assert beside.linked(links, "trust-1.html") == (
        f'<a href="#at-3"/><a href="../{FOLDER}/trust-2.html#at-120"/><a href="../report.html#other"/>'
    )


def test_what_moved_is_called_as_what_it_stood_in() -> None:
    """The section, the fold around it, or where neither has a title the section's file."""
    folds = [Fold(f"fold {n}", "", [Paragraph("text")]) for n in range(WHOLE + 1)]
    beside = Beside()
    beside.part("trust", Section("Trust it?", folds))
    beside.part("same-images", Section("", folds))
    beside.part("made", Section("", [Fold("Every panel", "", folds)]))
    said = [page(section).split("the report</a>: ")[1].split("</p>")[0] for section in beside.files.values()]
    assert said == ["Trust it?", "Same images", "Every panel"]


def test_few_folds_and_short_tables_stay() -> None:
    beside = Beside()
    section = Section("Trust", [Fold(f"fold {n}", "", [grid(3)]) for n in range(WHOLE)])
    assert page(beside.part("trust", section)) == page(section)
    assert not beside.files


def test_only_our_own_files_are_cleared(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir()
    ours = page(Section("", [Paragraph("ours")]))
    for name, text in {"trust-1.html": ours, "trust-2.html": ours, "my-notes.html": "<p>mine</p>"}.items():
        (folder / name).write_text(text, encoding="utf-8")
    clear(folder, {"trust-1.html": None})
    assert {path.name for path in folder.iterdir()} == {"trust-1.html", "my-notes.html"}
    (folder / "my-notes.html").unlink()
    clear(folder, {})
    assert not folder.exists()
    _beside.clear(folder, {})  # where there is none
