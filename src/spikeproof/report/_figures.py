"""The figures of every study but the first, pure functions from summaries to a Figure, or None where nothing is known.

No pyplot: a Figure made by hand is in no global list and is freed like any object. Colours are those of Okabe and Ito
(Color Universal Design, 2008) without the yellow, which is lost on white; the colour scale is cividis. Both can be told
apart by colour-blind readers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spikeproof.report._summary import Curve, Headline, Site, Summary
from spikeproof.report._text import BOUND, MANY, kind, kinds

__all__ = [
    "FEW", "STYLE", "alike_lines", "cell_lines", "chained", "curves", "drawn", "in_percent", "layers", "legend",
    "training",
]  # fmt: skip

FEW = 8
"""Up to so many cells, lines carry bands."""

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same bytes on every machine
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a8f98",
    "axes.labelcolor": "#23272f",
    "axes.titlesize": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e8ec",
    "grid.linewidth": 0.8,
    "xtick.color": "#5b616b",
    "ytick.color": "#5b616b",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "pdf.fonttype": 42,
    "text.parse_math": False,  # a cell may be called "$x$"
}

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", ":", "-.")
_GREY = "#8a8f98"
_HOLLOW: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 4.5, "markerfacecolor": "white"}
_TICKS = 12

_Line: TypeAlias = tuple[dict[str, Any], str]
"""How a line looks, and its name in the legend."""

_Drawn: TypeAlias = tuple[_Line, Sequence[float], Sequence[float]]
"""A line and where it goes, across and up."""

_T = TypeVar("_T")


def curves(cells: Sequence[Summary], headline: Headline | None) -> Figure | None:
    """Worst-case robust accuracy (y, %) against eps (x, units of the threat), a line per cell, with bands if few.

    A line has a hole where a budget could not be evaluated.
    """
    shown = [(index, curve) for index, cell in enumerate(cells) if (curve := cell.curve) is not None]
    if not shown or headline is None:
        return None
    lines = cell_lines(cells)
    figure, (axes,) = _panels(1, lines, height=4.2)
    found: list[_Drawn] = []
    for index, curve in shown:
        style, _ = lines[index]
        low, high, heights = (in_percent(curve, field) for field in ("low", "high", "share"))
        if len(shown) <= FEW:  # more bands than that only make mud
            axes.fill_between(curve.eps, low, high, color=style["color"], alpha=0.13, linewidth=0)
        found.append((lines[index], curve.eps, heights))
    drawn(axes, found, marker="o", markersize=3.5)
    for look, points in _by_look([(lines[index], _hollow(curve)) for index, curve in shown]):
        if some := [point for one in points for point in one]:
            axes.plot(*zip(*some, strict=True), **_HOLLOW, markeredgecolor=look["color"], zorder=3)
    _bound_label(axes, [curve for _, curve in shown])
    ticks = _spread({eps: text for _, curve in shown for eps, text in zip(curve.eps, curve.texts, strict=True)})
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_xlabel(f"eps ({headline.evaluation})")
    axes.set_ylabel("worst-case robust accuracy (%)")
    axes.set_ylim(-2, 102)
    axes.margins(x=0.02)
    legend(figure, axes)
    return figure


def layers(cells: Sequence[Summary]) -> Figure | None:
    """Share of exact zeros (%) and Gini of the gradient that enters each layer, the image first, a line per cell."""
    shown = [(index, cell, found) for index, cell in enumerate(cells) if (found := _measured_sites(cell))]
    if not shown:
        return None
    sites = _joined([found for _, _, found in shown])
    place = {name: x for x, name in enumerate(sites)}
    lines = cell_lines(cells)
    figure, panels = _panels(2, lines, height=5.6, sharex=True)
    for axes, (metric, factor) in zip(panels, (("zero_share", 100.0), ("gini", 1.0)), strict=True):
        some: list[_Drawn] = []
        for index, cell, found in shown:
            points = {place[site.name]: _value(cell, site.name, metric) for site in found}
            values = {x: factor * y for x, y in points.items() if y is not None}
            some.append((lines[index], list(values), list(values.values())))
        # Of so many cells the lines are read, not the dots on them; a cell with one site has nothing else.
        marked = len(cells) <= MANY or any(len(x) == 1 for _, x, _ in some)
        drawn(axes, some, **({"marker": "o", "markersize": 3} if marked else {}))
    panels[0].set_ylabel("exact zeros (%)")
    panels[1].set_ylabel("Gini (higher: sparser)")
    panels[1].set_xlabel("where the gradient is measured, from the image inward")
    step = -(-len(sites) // _TICKS)
    ticks = sorted({0, min(1, len(sites) - 1), *range(1, len(sites), step)})
    panels[1].set_xticks(ticks, [sites[tick] for tick in ticks], rotation=40, ha="right", rotation_mode="anchor")
    legend(figure, panels[0])
    return figure


def training(cells: Sequence[Summary]) -> Figure | None:
    """Training loss and validation accuracy (%) against the epoch, a line per cell; a dot marks the epoch kept."""
    shown = [(index, cell) for index, cell in enumerate(cells) if cell.history]
    if not shown:
        return None
    lines = cell_lines(cells)
    figure, panels = _panels(2, lines, height=2.9, across=True)
    fields: tuple[tuple[Literal["loss", "validation_accuracy"], float], ...] = (
        ("loss", 1.0),
        ("validation_accuracy", 100.0),
    )
    for axes, (field, factor) in zip(panels, fields, strict=True):
        found: list[_Drawn] = []
        kept: list[tuple[_Line, list[tuple[float, float]]]] = []
        for index, cell in shown:
            points: dict[float, float] = {
                row["epoch"]: factor * row[field] for row in cell.history if row.get(field) is not None
            }
            found.append((lines[index], list(points), list(points.values())))
            best = cell.provenance.get("best_epoch")
            if best is not None and best in points:
                kept.append((lines[index], [(best, points[best])]))
        drawn(axes, found, linewidth=1.1)
        for look, dots in _by_look(kept):
            x, y = zip(*(dot for one in dots for dot in one), strict=True)
            axes.plot(x, y, marker="o", markersize=4, color=look["color"], linestyle="none")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set_ylabel("training loss")
    panels[1].set_ylabel("validation accuracy (%)")
    legend(figure, panels[0])
    return figure


def _panels(
    count: int, lines: Sequence[_Line], *, height: float, across: bool = False, sharex: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure high enough for the legend of its lines, with its panels one above or beside the other."""
    named = len({label for _, label in lines})
    figure = Figure(figsize=(8.4, max(height, 0.5 + 0.2 * named)), layout="constrained")
    rows, columns = (1, count) if across else (count, 1)
    return figure, list(figure.subplots(rows, columns, sharex=sharex, squeeze=False).flat)


def cell_lines(cells: Sequence[Summary], named: int = MANY) -> list[_Line]:
    """The look and the name of each cell's line; of more cells than are `named`, those of its kind."""
    if len(cells) <= named:
        return [(_look(index), cell.label) for index, cell in enumerate(cells)]
    axis, names = kinds(cells)
    return [({**_look(names.index(name := kind(cell, axis))), "alpha": 0.5}, name) for cell in cells]


def drawn(axes: Axes, some: Sequence[_Drawn], **how: Any) -> None:
    """Draw lines; those that look alike and have one name are one path, which is much less to draw and to load."""
    for (look, label), lines in alike_lines([(line, (x, y)) for line, x, y in some]):
        axes.plot(*chained(lines), label=label, **{**look, **how})


def chained(lines: Iterable[tuple[Sequence[float], Sequence[float]]]) -> tuple[list[float], list[float]]:
    """Lines as one with holes between them.

    >>> chained([([0, 1], [2, 3]), ([4], [5])])
    ([0, 1, nan, 4], [2, 3, nan, 5])
    """
    x: list[float] = []
    y: list[float] = []
    for across, up in lines:
        hole = [np.nan] if x else []
        x += [*hole, *across]
        y += [*hole, *up]
    return x, y


def _by_look(some: Sequence[tuple[_Line, _T]]) -> list[tuple[dict[str, Any], list[_T]]]:
    return [(look, things) for (look, _), things in alike_lines(some)]


def alike_lines(some: Sequence[tuple[_Line, _T]]) -> list[tuple[_Line, list[_T]]]:
    """What belongs to lines that look alike and have one name, together, in the order in which these come first."""
    found: dict[str, tuple[_Line, list[_T]]] = {}
    for line, thing in some:
        found.setdefault(repr(line), (line, []))[1].append(thing)
    return list(found.values())


def _look(index: int) -> dict[str, Any]:
    """A line keeps its colour and dash in every figure."""
    return {
        "color": _COLOURS[index % len(_COLOURS)],
        "linestyle": _DASHES[index // len(_COLOURS) % len(_DASHES)],
    }


def legend(figure: Figure, axes: Axes) -> None:
    """Every name once."""
    handles = {label: handle for handle, label in reversed(list(zip(*axes.get_legend_handles_labels(), strict=True)))}
    figure.legend(list(handles.values())[::-1], list(handles)[::-1], loc="outside right center")


def _spread(ticks: dict[float, str]) -> dict[float, str]:
    """The ticks in ascending order, without those whose text would touch the one before."""
    room = 0.045 * max(ticks)
    kept: dict[float, str] = {}
    for eps in sorted(ticks):
        if not kept or eps - max(kept) >= room:
            kept[eps] = ticks[eps]
    return kept


def _value(cell: Summary, site: str, metric: str) -> float | None:
    found = cell.measure(site, metric)
    return None if found is None else found.value


def _measured_sites(cell: Summary) -> list[Site]:
    return [site for site in cell.sites if cell.measure(site.name, "zero_share") is not None]


def _joined(measured: Sequence[Sequence[Site]]) -> list[str]:
    """The names of all sites by depth; where networks differ, a name stands at the least of its depths."""
    depth: dict[str, int] = {}
    for order, name in (site for sites in measured for site in sites):
        depth[name] = min(order, depth.get(name, order))
    return sorted(depth, key=lambda name: (depth[name], name))


def in_percent(curve: Curve, field: str) -> list[float]:
    """A field of each point in percent; NaN, which breaks a line, where there is no point."""
    return [np.nan if point is None else 100 * float(getattr(point, field)) for point in curve.points]


def _hollow(curve: Curve) -> list[tuple[float, float]]:
    """The points that are upper bounds, which are drawn white."""
    return [(e, y) for e, y, bound in zip(curve.eps, in_percent(curve, "share"), curve.bounds, strict=True) if bound]


def _bound_label(axes: Axes, shown: Sequence[Curve]) -> None:
    if any(any(curve.bounds) for curve in shown):
        axes.plot([], [], **_HOLLOW, markeredgecolor=_GREY, label=BOUND)
