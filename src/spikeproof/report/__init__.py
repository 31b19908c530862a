"""The report of a study: rows in, one self-contained page and the figures of a paper out.

It reads rows and imports no model and no attack, so that a page can be made anywhere from the plain files of a study.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from spikeproof.errors import SpikeproofError
from spikeproof.report import _examined, _figures, _reading, _tradeoff_figures
from spikeproof.report._page import render
from spikeproof.report._summary import CellLike, Headline, Summary, headline_of, summarise
from spikeproof.report._svg import drawing, pdf, svg
from spikeproof.report._tradeoff import Answers, answer

__all__ = ["write"]


def write(cells: Sequence[CellLike], folder: Path, *, title: str) -> Path:
    """Write `report.html` and `figures/*.svg`, `*.pdf` into `folder` (made if need be); returns the page's path.

    The page needs no network and no script. The same cells give the same bytes, and every file appears whole or not at
    all. The cells are compared at the headline that most of them name in their configuration. A figure for which
    nothing was measured is not written, and one of that name from before is removed. Raises SpikeproofError where there
    is no cell, a cell comes twice, or the rows of a cell are damaged.
    """
    if not cells:
        raise SpikeproofError("at least one cell", "none", mend="run a study first")
    headline = headline_of(cells)
    summaries = summarise(cells, headline)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    answers = answer(summaries)
    drawn = _draw(summaries, headline, answers, folder / "figures")
    page = folder / "report.html"
    text = render(
        summaries,
        headline,
        answers,
        title=title,
        drawings=drawn,
        reading=_reading.read(summaries, headline, tested=answers is not None),
        warnings=_reading.warnings(summaries, headline),
    )
    _replace(page, text.encode())
    return page


def _draw(cells: Sequence[Summary], headline: Headline | None, answers: Answers | None, folder: Path) -> dict[str, str]:
    """Save every figure that has something to show; returns name -> <svg> element."""
    labels = {
        "tradeoff": "Clean accuracy against worst-case robust accuracy, one mark for each cell",
        "curves": "Worst-case robust accuracy against eps, one line for each cell",
        "layers": "Sparsity of the gradient by layer, one line for each cell",
        "training": "Training loss and validation accuracy by epoch, one line for each cell",
        "theory": "Measured against predicted ratio of attack to noise, one dot for each image",
        "shape": "Robust and clean accuracy against the sparsity of the image gradient, coloured by its scale",
        "forest": "Rank correlations of robust and of clean accuracy with every measure of sparsity, with intervals",
        "pareto": "The Pareto front of clean and worst-case robust accuracy, one mark for each configuration",
    }
    drawn: dict[str, str] = {}
    with drawing():
        figures: dict[str, Figure | None] = {
            "tradeoff": _figures.tradeoff(cells, headline),
            "curves": _figures.curves(cells, headline),
            "layers": _figures.layers(cells),
            "training": _figures.training(cells),
            "theory": _examined.ratios(cells),
            "shape": None if answers is None else _tradeoff_figures.shape(answers),
            "forest": None if answers is None else _tradeoff_figures.forest(answers),
            "pareto": None if answers is None else _tradeoff_figures.pareto(answers),
        }
        titles = {"tradeoff": _figures.marks(cells)}
        if answers is not None:
            titles["shape"] = _tradeoff_figures.titles(answers)
        for name, figure in figures.items():
            if figure is None:
                for suffix in ("svg", "pdf"):
                    (folder / f"{name}.{suffix}").unlink(missing_ok=True)
                continue
            drawn[name] = svg(figure, name, labels[name], titles.get(name, {}))
            _replace(folder / f"{name}.svg", drawn[name].encode())
            _replace(folder / f"{name}.pdf", pdf(figure))
    return drawn


def _replace(path: Path, content: bytes) -> None:
    """Write under another name and rename: a reader sees the old file or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    os.replace(temporary, path)
