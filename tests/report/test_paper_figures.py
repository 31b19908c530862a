"""Figures for print: as wide as asked, in 8 pt of embedded outlines, with the page's numbers, and legible in grey."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from spikeproof import report
from spikeproof.report import _paper_figures, write
from spikeproof.report._paper_figures import WIDTHS, Width, curves, networks
from spikeproof.report._summary import headline_of, summarise
from spikeproof.report._svg import drawing, pdf

Make = Callable[..., Any]
INCHES = {"column": 3.3, "page": 6.9}


@pytest.fixture(autouse=True)
def no_fonts() -> None:
    """Here the figures are real."""


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with drawing(), mpl.rc_context(_paper_figures._STYLE):
        yield


@pytest.fixture
def plain_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures for print are real, and those of the page are not drawn."""
    monkeypatch.setattr(report, "settle", lambda figure: None)
    monkeypatch.setattr(report, "svg", lambda *given: "<svg/>")
    monkeypatch.setattr(report, "pdf", lambda figure: b"%PDF")


@pytest.fixture
def cells(make_panel_cell: Make, panel_of: Make) -> list[Any]:
    names = ["low", "a name that is much longer than what a column has room for", "high"]
    return [make_panel_cell(name, panel_of(["D22"], kept=kept)) for name, kept in zip(names, (2, 5, 9), strict=True)]


def drawn(make: Callable[..., Figure | None], cells: list[Any], width: Width) -> Figure:
    headline = headline_of(cells)
    figure = make(summarise(cells, headline), headline, width)
    assert figure is not None
    return figure


@pytest.mark.usefixtures("plain_page")
@pytest.mark.parametrize("width", get_args(Width))
def test_the_files_are_as_wide_as_asked_and_carry_their_fonts(cells: list[Any], width: Width, tmp_path: Path) -> None:
    write(cells, tmp_path, title="t", figures=width)
    folder = tmp_path / "figures" / width
    assert {path.name for path in folder.iterdir()} == {
        f"{n}.{s}" for n in ("networks", "curves") for s in ("svg", "pdf")
    }
    for name in ("networks", "curves"):
        svg = (folder / f"{name}.svg").read_text(encoding="utf-8")
        assert float(ElementTree.fromstring(svg).attrib["width"].removesuffix("pt")) == pytest.approx(
            72 * INCHES[width]
        )
        assert "<text" not in svg, "letters are outlines"
        content = (folder / f"{name}.pdf").read_bytes()
        (box,) = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) [\d.]+ \]", content)
        assert float(box) == pytest.approx(72 * INCHES[width])
        assert b"/FontFile2" in content
        assert b"/Subtype /Type3" not in content


@pytest.mark.parametrize("width", get_args(Width))
@pytest.mark.parametrize("make", [networks, curves])
def test_every_word_is_of_8_points_and_inside_the_figure(make: Any, cells: list[Any], width: Width) -> None:
    figure = drawn(make, cells, width)
    figure.draw_without_rendering()
    words = [one for one in figure.findobj(Text) if one.get_text() and one.get_visible()]
    assert {one.get_fontsize() for one in words} == {8}
    tight = figure.get_tightbbox()
    assert tight.x0 > -0.01
    assert tight.x1 < INCHES[width] + 0.01


@pytest.mark.usefixtures("no_pdf")
def test_its_numbers_are_those_of_the_page(cells: list[Any], tmp_path: Path) -> None:
    """The words of each mark, and where the mark stands."""
    page = write(cells, tmp_path, title="t", figures="column").read_text(encoding="utf-8")
    svg = ElementTree.fromstring((tmp_path / "figures" / "column" / "networks.svg").read_text(encoding="utf-8"))
    said = {one.attrib["aria-label"] for one in svg.iter() if one.get("tabindex")}
    every = {one.get("aria-label") for one in ElementTree.fromstring(page).iter() if one.get("tabindex")}
    assert said <= every
    assert len(said) == 3
    (axes, *_) = drawn(networks, cells, "column").axes
    found = summarise(cells, headline_of(cells))
    dots = {line.get_gid(): line for line in axes.lines if line.get_gid()}
    for place, cell in enumerate(found):
        worst = cell.worst()
        assert worst is not None
        assert list(dots[f"mark-{place}"].get_xdata()) == [100 * worst.share]
        assert f"{100 * worst.share:.1f}" in next(words for words in said if words.startswith(cell.label))


def test_lines_and_marks_are_told_apart_in_grey(cells: list[Any]) -> None:
    (axes,) = drawn(curves, cells, "column").axes
    looks = [(line.get_linestyle(), line.get_marker()) for line in axes.lines]
    assert len(looks) == len(set(looks)) == 3
    slack = sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), to_rgb(_paper_figures._SLACK), strict=True))
    grey = sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), to_rgb(_paper_figures._GREY), strict=True))
    assert 0.9 > slack > grey + 0.3


def test_of_many_networks_lines_tell_kinds_and_names_are_cut(
    make_panel_cell: Make, panel_of: Make, cells: list[Any]
) -> None:
    many = [make_panel_cell(f"n{n}", panel_of(["D22"], kept=n % 9 + 1)) for n in range(9)]
    assert len({line.get_label() for line in drawn(curves, many, "column").axes[0].lines}) == 1
    labels = [label.get_text() for label in drawn(networks, cells, "column").axes[0].get_yticklabels()]
    assert max(map(len, labels)) == WIDTHS["column"].letters
    assert any(label.endswith("\u2026") for label in labels)


@pytest.mark.usefixtures("undrawn")
def test_what_has_no_numbers_is_not_written_and_goes(make_cell: Make, tmp_path: Path) -> None:
    write([make_cell("a")], tmp_path, title="t", figures="page")
    old = tmp_path / "figures" / "page" / "curves.svg"
    assert old.is_file()
    report.write([make_cell("a", attacks=False)], tmp_path, title="t", figures="page")
    assert not list(old.parent.iterdir())


def test_a_pdf_of_one_figure_is_the_same_bytes(cells: list[Any]) -> None:
    assert pdf(drawn(curves, cells, "page")) == pdf(drawn(curves, cells, "page"))
