"""The report of a study: rows in, one self-contained page and the figures of a paper out.

It reads rows and imports no model and no attack, so that a page can be made anywhere from the plain files of a study.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from spikeproof.errors import SpikeproofError
from spikeproof.files import write_bytes
from spikeproof.report import sections
from spikeproof.report._beside import FOLDER, WHOLE, Beside, clear
from spikeproof.report._blocks import Section, drawings
from spikeproof.report._findings import Findings
from spikeproof.report._page import Chapter, made_of, render
from spikeproof.report._paper_figures import Width, write_figures
from spikeproof.report._summary import CellLike, headline_of, summarise
from spikeproof.report._svg import drawing, pdf, settle, svg

__all__ = ["write"]


def write(cells: Sequence[CellLike], folder: Path, *, title: str, figures: Width | None = None) -> Path:
    """Write `report.html` and `figures/*.svg`, `*.pdf` into `folder` (made if need be); returns the page's path.

    Of many cells, long tables and folds stand in `report-files/*.html` beside the page (see `_beside`). The page needs
    no network, and tells everything without its script. The same cells give the same bytes, and every file appears
    whole or not at all. The cells are compared at the headline that most of them name in their configuration. A figure
    for which nothing was measured is not written, and one of that name from before is removed. `figures` writes the two
    main ones for print as well, into `figures/column` or `figures/page`. Raises SpikeproofError
    where there is no cell, a cell comes twice, or the rows of a cell are damaged.
    """
    if not cells:
        raise SpikeproofError("at least one cell", "none", mend="run a study first")
    headline = headline_of(cells)
    found = Findings(summarise(cells, headline), headline)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    beside = Beside()
    made: dict[int | None, dict[str, Section]] = {}
    drawn: dict[str, str] = {}
    with drawing():
        for source in sections.sources():
            section = source.section(found)
            if section is not None:
                section = beside.part(source.anchor, section) if len(cells) > WHOLE else section
                made.setdefault(source.chapter, {})[source.anchor] = section
            drawn |= _draw(section, source.figures, folder / "figures")
        if figures is not None:
            write_figures(found, folder, figures)
    page = folder / "report.html"
    chapters = [Chapter(f"chapter-{n}", question, made[n]) for n, question in enumerate(sections.CHAPTERS) if n in made]
    foot = made_of(found.cells)
    _write_beside(beside, folder, title=title, made=foot)
    write_bytes(page, beside.linked(render(made.get(None, {}), chapters, drawn, title=title, made=foot)).encode())
    return page


def _write_beside(beside: Beside, folder: Path, *, title: str, made: str) -> None:
    """The files beside the page; those of an earlier report that are none of it any more go."""
    if beside.files:
        (folder / FOLDER).mkdir(exist_ok=True)
    for name, section in beside.files.items():
        html = render({name.removesuffix(".html"): section}, [], {}, title=title, made=made)
        write_bytes(folder / FOLDER / name, beside.linked(html, name).encode())
    clear(folder / FOLDER, beside.files)


def _draw(section: Section | None, names: Sequence[str], folder: Path) -> dict[str, str]:
    """Save the figures of a section, and remove those of `names` that it has not; returns name -> <svg> element."""
    drawn: dict[str, str] = {}
    for one in drawings(() if section is None else section.blocks):
        if one.name not in names:
            raise ValueError(f"a section draws {one.name!r}, which is not among its FIGURES {tuple(names)}")
        if one.figure is not None:
            settle(one.figure)
            drawn[one.name] = svg(one.figure, one.name, one.label, one.titles)
            write_bytes(folder / f"{one.name}.svg", drawn[one.name].encode())
            write_bytes(folder / f"{one.name}.pdf", pdf(one.figure))
    for name in set(names) - set(drawn):
        for suffix in ("svg", "pdf"):
            (folder / f"{name}.{suffix}").unlink(missing_ok=True)
    return drawn
