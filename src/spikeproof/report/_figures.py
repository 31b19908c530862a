"""The four figures, each a pure function from summaries to a matplotlib Figure, or None where nothing was measured.

No pyplot: a Figure made by hand is in no global list and is freed like any object. Colours are those of Okabe and Ito
(Color Universal Design, 2008) without the yellow, which is lost on white; the colour scale is cividis. Both can be told
apart by colour-blind readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from spikeproof.metrics.robustness import Interval
from spikeproof.report._labels import place
from spikeproof.report._summary import Curve, Headline, Site, Summary
from spikeproof.report._text import BOUND, MANY, claim, mean, threat, with_interval

__all__ = ["FEW", "MARK", "STYLE", "cell_lines", "curves", "layers", "legend", "marks", "tradeoff", "training"]

FEW = 8
"""Up to so many cells, marks carry names and lines carry bands."""

MARK = "mark-"
"""Prefix of the gid of each cell's mark in the trade-off; the cell's place in the order follows."""

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
_SHAPES = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
_GREY = "#8a8f98"
_HOLLOW: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 4.5, "markerfacecolor": "white"}
_TICKS = 12

_Line: TypeAlias = tuple[dict[str, Any], str]
"""How a line looks, and its name in the legend."""


def marks(cells: Sequence[Summary]) -> dict[str, str]:
    """gid -> the words that a reader sees when the pointer rests on that cell's mark in the trade-off."""
    return {
        f"{MARK}{index}": (
            f"{cell.label}: clean test accuracy {with_interval(cell.clean('test'))}, "
            f"worst-case robust accuracy {claim(cell)}, "
            f"Gini of the image gradient {mean(cell.measure('image', 'gini'))}"
        )
        for index, cell in enumerate(cells)
    }


def tradeoff(cells: Sequence[Summary], headline: Headline | None) -> Figure | None:
    """Clean accuracy (x, %) against worst-case robust accuracy at the headline (y, %), coloured by the image's Gini."""
    shown = [
        (index, cell, clean, worst)
        for index, cell in enumerate(cells)
        if (clean := cell.clean("test")) is not None and (worst := cell.worst()) is not None
    ]
    if not shown or headline is None:
        return None
    many = len(cells) > MANY
    figure = Figure(figsize=(8.4, 5.6 if many else max(4.8, 0.2 * len(shown))), layout="constrained")
    axes = figure.add_subplot()
    some = [cell for _, cell, _, _ in shown]
    axis, kinds = _kinds(some)
    scale = _scale(some)
    for index, cell, clean, worst in shown:
        shape = _SHAPES[kinds.index(_kind(cell, axis)) % len(_SHAPES)]
        _mark(axes, f"{MARK}{index}", clean, worst, shape, _face(cell, scale), bars=not many)
        if cell.bound and not many:
            _arrow_down(axes, clean, worst)
    axes.set_xlabel("clean test accuracy (%)")
    axes.set_ylabel(f"worst-case robust accuracy (%)\n{threat(headline, some)}")
    axes.margins(0.1)
    if scale is not None:
        figure.colorbar(scale, ax=axes, pad=0.02, aspect=30, label="Gini of the image gradient (higher: sparser)")
    _kind_legend(
        figure, axis, kinds, unmeasured=any(_gini(cell) is None for cell in some),
        bound=not many and any(c.bound for c in some),
    )  # fmt: skip
    if many:
        return figure
    texts = [cell.label for cell in some]
    if len(shown) > FEW:
        texts = [str(index + 1) for index, *_ in shown]
        named = [Line2D([], [], linestyle="none", label=f"{index + 1}  {cell.label}") for index, cell, *_ in shown]
        figure.legend(handles=named, loc="outside right center", handlelength=0, handletextpad=0)
    place(figure, axes, [(100 * clean.share, 100 * worst.share) for _, _, clean, worst in shown], texts)
    return figure


def curves(cells: Sequence[Summary], headline: Headline | None) -> Figure | None:
    """Worst-case robust accuracy (y, %) against eps (x, units of the threat), a line per cell, with bands if few.

    A line has a hole where a budget could not be evaluated.
    """
    shown = [(index, curve) for index, cell in enumerate(cells) if (curve := cell.curve) is not None]
    if not shown or headline is None:
        return None
    lines = cell_lines(cells)
    figure, (axes,) = _panels(1, lines, height=4.2)
    for index, curve in shown:
        style, label = lines[index]
        low, high, heights = (_heights(curve, field) for field in ("low", "high", "share"))
        if len(shown) <= FEW:  # more bands than that only make mud
            axes.fill_between(curve.eps, low, high, color=style["color"], alpha=0.13, linewidth=0)
        axes.plot(curve.eps, heights, marker="o", markersize=3.5, label=label, **style)
        _hollow(axes, curve, style["color"])
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
    lines = cell_lines(cells)
    figure, panels = _panels(2, lines, height=5.6, sharex=True)
    for axes, (metric, factor) in zip(panels, (("zero_share", 100.0), ("gini", 1.0)), strict=True):
        for index, cell, found in shown:
            points = {sites.index(site.name): _value(cell, site.name, metric) for site in found}
            drawn = {x: factor * y for x, y in points.items() if y is not None}
            style, label = lines[index]
            axes.plot(list(drawn), list(drawn.values()), marker="o", markersize=3, label=label, **style)
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
        for index, cell in shown:
            points: dict[float, float] = {
                row["epoch"]: factor * row[field] for row in cell.history if row.get(field) is not None
            }
            style = {**lines[index][0], "linewidth": 1.1}
            axes.plot(list(points), list(points.values()), label=lines[index][1], **style)
            best = cell.provenance.get("best_epoch")
            if best is not None and best in points:
                axes.plot([best], [points[best]], marker="o", markersize=4, color=style["color"])
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


def cell_lines(cells: Sequence[Summary]) -> list[_Line]:
    """The look and the name of each cell's line; of too many cells, those of its kind."""
    if len(cells) <= MANY:
        return [(_look(index), cell.label) for index, cell in enumerate(cells)]
    axis, kinds = _kinds(cells)
    return [({**_look(kinds.index(kind := _kind(cell, axis))), "alpha": 0.5}, kind) for cell in cells]


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


def _gini(cell: Summary) -> float | None:
    return _value(cell, "image", "gini")


def _scale(cells: Sequence[Summary]) -> ScalarMappable | None:
    values = [value for cell in cells if (value := _gini(cell)) is not None]
    if not values:
        return None
    low, high = min(values), max(values)
    spare = 0.01 if high == low else 0.0  # a scale needs a length
    return ScalarMappable(Normalize(low - spare, high + spare), "cividis")


def _face(cell: Summary, scale: ScalarMappable | None) -> str:
    value = _gini(cell)
    if value is None or scale is None:
        return "white"
    red, green, blue, _ = scale.to_rgba(np.array([value]))[0]
    return to_hex((red, green, blue))


def _mark(axes: Axes, gid: str, clean: Interval, worst: Interval, shape: str, face: str, *, bars: bool) -> None:
    x, y = 100 * clean.share, 100 * worst.share
    if bars:
        axes.plot([100 * clean.low, 100 * clean.high], [y, y], color=_GREY, linewidth=0.8)
        axes.plot([x, x], [100 * worst.low, 100 * worst.high], color=_GREY, linewidth=0.8)
    axes.scatter([x], [y], s=62, marker=shape, facecolors=face, edgecolors="#23272f", linewidths=0.8, zorder=3, gid=gid)


def _arrow_down(axes: Axes, clean: Interval, worst: Interval) -> None:
    """The number is an upper bound: the truth lies below."""
    axes.annotate(
        "",
        xy=(100 * clean.share, 100 * worst.share),
        xytext=(0, -24),
        textcoords="offset points",
        annotation_clip=False,
        arrowprops={"arrowstyle": "<|-", "color": "#23272f", "linewidth": 1.2, "shrinkA": 0, "shrinkB": 4},
    )


def _heights(curve: Curve, field: str) -> list[float]:
    """A field of each point in percent; NaN, which breaks a line, where there is no point."""
    return [np.nan if point is None else 100 * float(getattr(point, field)) for point in curve.points]


def _hollow(axes: Axes, curve: Curve, color: str) -> None:
    """White the points that are upper bounds."""
    some = [(e, y) for e, y, bound in zip(curve.eps, _heights(curve, "share"), curve.bounds, strict=True) if bound]
    if some:
        axes.plot(*zip(*some, strict=True), **_HOLLOW, markeredgecolor=color, zorder=3)


def _bound_label(axes: Axes, shown: Sequence[Curve]) -> None:
    if any(any(curve.bounds) for curve in shown):
        axes.plot([], [], **_HOLLOW, markeredgecolor=_GREY, label=BOUND)


def _kinds(cells: Sequence[Summary]) -> tuple[str, list[str]]:
    """What the shape of a mark tells: the defence or, where all have the same, the pooling; and its values."""
    axis = "defence" if len({cell.defence for cell in cells}) > 1 else "pool"
    return axis, list(dict.fromkeys(_kind(cell, axis) for cell in cells))


def _kind(cell: Summary, axis: str) -> str:
    return (cell.defence if axis == "defence" else cell.setting("model", "pool")) or "none"


def _kind_legend(figure: Figure, axis: str, kinds: Sequence[str], *, unmeasured: bool, bound: bool) -> None:
    look: dict[str, Any] = {"linestyle": "none", "markeredgecolor": "#23272f", "markersize": 7}
    handles = [
        Line2D([], [], marker=_SHAPES[index % len(_SHAPES)], markerfacecolor=_GREY, label=f"{axis}: {kind}", **look)
        for index, kind in enumerate(kinds)
    ]
    if unmeasured:
        handles.append(Line2D([], [], marker="o", markerfacecolor="white", label="white: Gini not measured", **look))
    if bound:
        dark = {**look, "markerfacecolor": "#23272f", "markersize": 4}
        handles.append(Line2D([], [], marker="v", label=f"arrow: {BOUND}", **dark))
    figure.legend(handles=handles, loc="outside upper left", ncols=4)
