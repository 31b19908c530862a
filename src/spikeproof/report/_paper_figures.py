"""The two main figures as a paper prints them: as wide as a column or as a page, in 8 pt, and legible without colour.

Each is the page's own numbers: a row a network from clean down to where its worst case may fall yet, and robust
accuracy against the budget. Every mark of them has a shape of its own, every line a dash and a marker, and the scale of
colours gets lighter all the way, so that a print in grey tells the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from spikeproof.files import write_bytes
from spikeproof.report import _overview_figure
from spikeproof.report._answer import ranked
from spikeproof.report._figures import FEW, alike_lines, cell_lines, chained, in_percent
from spikeproof.report._findings import Findings
from spikeproof.report._summary import Headline, Summary
from spikeproof.report._svg import pdf, settle, svg
from spikeproof.report._text import MANY, threat

__all__ = ["WIDTHS", "Width", "curves", "networks", "write_figures"]

Width: TypeAlias = Literal["column", "page"]


class _Print(NamedTuple):
    """Width in inches, letters of a network's name at most, columns of a legend."""

    inches: float
    letters: int
    columns: int


WIDTHS: dict[str, _Print] = dict(zip(get_args(Width), (_Print(3.3, 22, 2), _Print(6.9, 60, 4)), strict=True))

_STYLE: dict[Any, Any] = {
    "font.size": 8, "axes.labelsize": 8, "axes.titlesize": 8, "xtick.labelsize": 8, "ytick.labelsize": 8,
    "legend.fontsize": 8, "axes.linewidth": 0.6, "grid.linewidth": 0.5, "lines.linewidth": 1.0, "lines.markersize": 4,
    "legend.handlelength": 2.4, "legend.columnspacing": 1.2, "xtick.color": "#23272f", "ytick.color": "#23272f",
}  # fmt: skip
_INK, _GREY, _SLACK = "#23272f", "#5b616b", "#f0c9a8"
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
_DASHES = ("-", "--", "-.", ":")


def write_figures(of: Findings, folder: Path, width: Width) -> Path:
    """Write `figures/<width>/networks` and `curves`, each as SVG and PDF; one without numbers is not written, and of
    that name removed. Returns the folder. Call it inside `drawing()`."""
    place = folder / "figures" / width
    place.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(_STYLE):
        shown = ranked(of.cells)
        titles = _overview_figure.marks(shown)
        _write(place / "networks", networks(shown, of.headline, width), "Accuracy of each network", titles)
        _write(place / "curves", curves(of.cells, of.headline, width), "Robust accuracy by budget", {})
    return place


def _write(path: Path, figure: Figure | None, label: str, titles: Mapping[str, str]) -> None:
    if figure is not None:
        settle(figure)
        write_bytes(path.with_suffix(".svg"), svg(figure, f"{path.parent.name}-{path.name}", label, titles).encode())
        write_bytes(path.with_suffix(".pdf"), pdf(figure))
        return
    for suffix in (".svg", ".pdf"):
        path.with_suffix(suffix).unlink(missing_ok=True)


def networks(cells: Sequence[Summary], headline: Headline | None, width: Width) -> Figure | None:
    """Percent of images (x), a row a network in the order given; None where no network has a worst case."""
    shown = [one for n, cell in enumerate(cells) if (one := _overview_figure.row(n, cell)) is not None]
    if not shown or headline is None:
        return None
    print_ = WIDTHS[width]
    few = len(shown) <= MANY
    figure = Figure(figsize=(print_.inches, 1.65 + 0.16 * len(shown) if few else 5.5), layout="constrained")
    axes = figure.add_subplot()
    scale = _overview_figure.scale_of([one.cell for one in shown])
    for place, one in enumerate(shown):
        clean, worst = 100 * one.clean.share, 100 * one.worst.share
        axes.plot([worst, clean], [place, place], color="#c3c8d1", linewidth=0.8, zorder=1)
        if one.slack:
            axes.barh(place, -min(worst, 100 * one.slack), left=worst, height=0.6, color=_SLACK, zorder=2)
        axes.plot(clean, place, "D", color=_GREY, markersize=3, zorder=3)
        if one.plain is not None:
            axes.plot(100 * one.plain.share, place, "|", color=_GREY, markersize=7, markeredgewidth=1.4, zorder=3)
        axes.plot(worst, place, "o", color=_overview_figure.face(one.cell, scale), markeredgecolor=_INK, zorder=4,
                  markersize=5, markeredgewidth=0.6, gid=f"{_overview_figure.MARK}{one.at}")  # fmt: skip
    axes.set_yticks(range(len(shown)) if few else [], [_short(one.cell.label, print_) for one in shown] if few else [])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlim(-2, 102)
    axes.set_xlabel(f"images right (%)\n{threat(headline, [one.cell for one in shown])}")
    axes.grid(axis="y", visible=False)
    if scale is not None:
        figure.colorbar(scale, ax=axes, location="top", aspect=40, pad=0.02, label="Gini of the input gradient")
    _below(figure, _handles(shown), print_)
    return figure


def curves(cells: Sequence[Summary], headline: Headline | None, width: Width) -> Figure | None:
    """Worst-case robust accuracy (y, %) against eps (x); of more than 8 networks the lines tell kinds apart."""
    shown = [(index, curve) for index, cell in enumerate(cells) if (curve := cell.curve) is not None]
    if not shown or headline is None:
        return None
    print_ = WIDTHS[width]
    figure = Figure(figsize=(print_.inches, 2.6 if width == "column" else 3.2), layout="constrained")
    axes = figure.add_subplot()
    lines = cell_lines(cells, named=FEW)
    alike = alike_lines([(lines[index], (curve.eps, in_percent(curve, "share"))) for index, curve in shown])
    for place, ((look, label), some) in enumerate(alike):
        dash, marker = _DASHES[place % len(_DASHES)], _MARKERS[place % len(_MARKERS)]
        look = {**look, "linestyle": dash, "marker": marker}
        axes.plot(*chained(some), label=_short(label, print_), **look, markersize=3)
    axes.set_xlabel(f"eps; {headline.evaluation}")
    axes.set_ylabel("worst-case robust accuracy (%)")
    axes.set_ylim(-2, 102)
    handles, _ = axes.get_legend_handles_labels()
    _below(figure, handles, print_)
    return figure


def _short(name: str, print_: _Print) -> str:
    """A name that leaves room for the numbers."""
    return name if len(name) <= print_.letters else f"{name[: print_.letters - 1]}\u2026"


def _below(figure: Figure, handles: Sequence[Any], print_: _Print) -> None:
    figure.legend(handles=list(handles), loc="outside lower center", ncols=print_.columns, borderaxespad=0)


def _handles(shown: Sequence[_overview_figure.Row]) -> list[Line2D]:
    alone: dict[str, Any] = {"linestyle": "none"}
    found = [
        Line2D([], [], marker="o", color="white", markeredgecolor=_INK, markersize=5, label="worst case", **alone),
        Line2D([], [], marker="D", color=_GREY, markersize=3, label="clean", **alone),
    ]
    if any(one.plain is not None for one in shown):
        found.append(Line2D([], [], marker="|", color=_GREY, markersize=7, markeredgewidth=1.4,
                            label="plain attack", **alone))  # fmt: skip
    if any(one.slack for one in shown):
        found.append(Line2D([], [], color=_SLACK, linewidth=5, label="slack: may fall yet"))
    return found
