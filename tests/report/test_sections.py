"""A section is found by its file, and its table and its figure reach the page and the folder of figures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from markupsafe import Markup
from matplotlib.figure import Figure

from spikeproof.report import sections, write
from spikeproof.report._blocks import Box, Columns, Drawing, Fold, Paragraph, drawings, text

pytestmark = pytest.mark.usefixtures("undrawn")

TOY = '''
"""How many rows each cell has."""

from matplotlib.figure import Figure

from spikeproof.report._blocks import Drawing, Fold, Grid, Paragraph, Section
from spikeproof.report._tables import Entry, Table, numbers, word, words

PLACE = {place}
FIGURES = ("toy",)


def section(of):
    if len(of.cells) < 2:
        return None
    figure = Figure()
    figure.add_subplot().plot([1, 2], [3, 4])
    rows = [[word(cell.label), Entry(str(len(cell.history)))] for cell in of.cells]
    table = Table([*words("cell"), *numbers("epochs")], rows)
    fold = Fold("More", "", [Drawing("toy", "Toy", "One line.", "A line", figure)])
    return Section("Toy < section", [Paragraph("2 < 3"), Grid("Epochs", table), fold])
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Writes the toy section at a place."""

    def add(place: int) -> None:
        (tmp_path / "more").mkdir()
        (tmp_path / "more" / "a_toy.py").write_text(TOY.format(place=place), encoding="utf-8")
        (tmp_path / "more" / "_no_section.py").write_text("raise AssertionError\n", encoding="utf-8")
        monkeypatch.setattr(sections, "__path__", [*sections.__path__, str(tmp_path / "more")])

    yield add
    sys.modules.pop("spikeproof.report.sections.a_toy", None)


def titles(page: Path) -> list[str]:
    tree = ElementTree.fromstring(page.read_text(encoding="utf-8"))
    return ["".join(e.itertext()) for e in tree.iter() if e.tag in ("h2", "h3")]


def test_a_section_is_one_file(toy: Any, make_cell: Any, tmp_path: Path) -> None:
    cells = [make_cell("a"), make_cell("b")]
    before = titles(write(cells, tmp_path / "before", title="t"))
    toy(335)
    page = write(cells, tmp_path / "out", title="t")
    raw = page.read_text(encoding="utf-8")
    after = titles(page)
    place = before.index("How sparse?") + 1
    assert after == [*before[:place], "Toy < section", *before[place:]]
    assert '<h3 id="a-toy">Toy &lt; section</h3>' in raw
    assert "<p>2 &lt; 3</p>" in raw
    assert 'aria-label="Epochs"' in raw
    assert '<td class="number">5</td>' in raw
    assert '<figure id="figure-toy" tabindex="0" aria-label="Toy">' in raw
    assert (tmp_path / "out" / "figures" / "toy.svg").read_text(encoding="utf-8") in raw
    assert (tmp_path / "out" / "figures" / "toy.pdf").read_bytes().startswith(b"%PDF")


def test_its_place_is_a_number(toy: Any, make_cell: Any, tmp_path: Path) -> None:
    toy(5)
    assert titles(write([make_cell("a"), make_cell("b")], tmp_path / "out", title="t"))[0] == "Toy < section"


def test_a_section_without_anything_is_left_out_and_its_old_figure_removed(
    toy: Any, make_cell: Any, tmp_path: Path
) -> None:
    toy(335)
    write([make_cell("a"), make_cell("b")], tmp_path / "out", title="t")
    page = write([make_cell("a")], tmp_path / "out", title="t")
    assert "a-toy" not in page.read_text(encoding="utf-8")
    assert not list((tmp_path / "out" / "figures").glob("toy.*"))
    assert (tmp_path / "out" / "figures" / "curves.svg").is_file()


def test_every_shipped_figure_and_anchor_is_one_of_a_kind() -> None:
    found = sections.sources()
    figures = [name for source in found for name in source.figures]
    assert len(figures) == len(set(figures))
    assert len({source.place for source in found}) == len(found)
    assert [source.place for source in found] == sorted(source.place for source in found)


def test_figures_are_found_however_deep() -> None:
    one, two, three = (Drawing(name, "", "", "", Figure()) for name in ("one", "two", "three"))
    deep = [one, Box("", [Fold("", "", [two])]), Columns([[Paragraph("")], [three]])]
    assert list(drawings(deep)) == [one, two, three]


def test_what_is_set_into_words_is_escaped_and_a_space_that_holds_is_kept() -> None:
    assert text("a\n  <em>{}</em> 95\u00a0%", "<&>") == Markup("a <em>&lt;&amp;&gt;</em> 95\u00a0%")
