"""The figure that the page begins with: clean accuracy against worst case, one mark for each cell.

From each mark a line goes up to what the plain attack left, and a bar down to where eight times the passes might bring
it. Names stand in a column of their own, so that they never lie on each other or on a mark.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from spikeproof.metrics.robustness import Interval
from spikeproof.report._figures import chained
from spikeproof.report._labels import above, beside
from spikeproof.report._summary import Headline, Summary
from spikeproof.report._text import BOUND, MANY, claim, kind, kinds, mean, percent, threat, with_interval

__all__ = ["MARK", "Row", "face", "marks", "overview", "row", "scale_of"]

MARK = "mark-"
"""Prefix of the gid of each cell's mark; the cell's place in the order follows."""

_SHAPES = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
_INK, _GREY, _SLACK = "#23272f", "#8a8f98", "#d55e00"


class Row(NamedTuple):
    """A cell that has both numbers, its place among all cells, what the plain attack left, and its slack's upper end,
    as a share of all images."""

    at: int
    cell: Summary
    clean: Interval
    worst: Interval
    plain: Interval | None
    slack: float | None


def row(at: int, cell: Summary) -> Row | None:
    """What there is to draw of a cell; None without a clean accuracy or a worst case."""
    clean, worst = cell.clean("test"), cell.worst()
    return None if clean is None or worst is None else Row(at, cell, clean, worst, _plain(cell), _slack(cell))


def marks(cells: Sequence[Summary]) -> dict[str, str]:
    """gid -> the words that a reader sees when the pointer or the focus rests on that cell's mark."""
    return {f"{MARK}{index}": _words(cell) for index, cell in enumerate(cells)}


def _words(cell: Summary) -> str:
    plain, slack = _plain(cell), _slack(cell)
    parts = [
        f"clean test accuracy {with_interval(cell.clean('test'))}",
        f"worst-case robust accuracy {claim(cell)}",
        *([] if plain is None else [f"left by the plain attack {percent(plain.share)}"]),
        *([] if slack is None else [f"slack at most {percent(slack)}"]),
        f"Gini of the input gradient {mean(cell.measure('image', 'gini'))}",
    ]
    return f"{cell.label}: {', '.join(parts)}"


def overview(cells: Sequence[Summary], headline: Headline | None) -> Figure | None:
    """Clean accuracy (x, %) against worst-case robust accuracy at the headline (y, %), coloured by the image's Gini."""
    shown = [one for index, cell in enumerate(cells) if (one := row(index, cell)) is not None]
    if not shown or headline is None:
        return None
    few = len(cells) <= MANY
    figure = Figure(figsize=(8.4, max(4.4, 0.19 * len(shown)) if few else 5.6), layout="constrained")
    axes = figure.add_subplot()
    some = [one.cell for one in shown]
    axis, names = kinds(some)
    scale = scale_of(some)
    together: dict[str, list[Row]] = {}
    for one in shown:
        shape = _SHAPES[names.index(kind(one.cell, axis)) % len(_SHAPES)]
        together.setdefault(shape if not few else f"{shape} {one.at}", []).append(one)
    _doubts(axes, shown, few=few)
    for shape, alike in together.items():  # many marks in one call: each by itself takes fifty times as long
        axes.scatter(
            [100 * one.clean.share for one in alike], [100 * one.worst.share for one in alike], s=62 if few else 40,
            marker=shape.split()[0], facecolors=[face(one.cell, scale) for one in alike], edgecolors=_INK,
            linewidths=0.8, zorder=3, gid=" ".join(f"{MARK}{one.at}" for one in alike),
        )  # fmt: skip
    axes.set_xlabel("clean test accuracy (%)")
    axes.set_ylabel(f"worst-case robust accuracy (%)\n{threat(headline, some)}")
    axes.margins(0.08)
    axes.set_ylim(bottom=min(-2.0, axes.get_ylim()[0]))
    if scale is not None:
        figure.colorbar(scale, ax=axes, pad=0.02, aspect=30, location="left", label="Gini of the input gradient")
    _legend(figure, axis, names, some)
    if few:
        beside(figure, axes, [(100 * one.clean.share, 100 * one.worst.share) for one in shown],
               [one.cell.label for one in shown])  # fmt: skip
    return figure


def _doubts(axes: Axes, shown: Sequence[Row], *, few: bool) -> None:
    """How far the plain attack was above each worst case, and how far that may fall yet."""
    thin: dict[str, Any] = {"linewidth": 0.9 if few else 0.5, "alpha": 1.0 if few else 0.6, "zorder": 1}
    bars: dict[str, Any] = {"linewidth": 5 if few else 2.5, "alpha": 0.5, "solid_capstyle": "butt", "zorder": 2}
    up, down = [], []
    for one in shown:
        x, y = 100 * one.clean.share, 100 * one.worst.share
        if one.plain is not None and one.plain.share > one.worst.share:
            up.append(([x, x], [y, 100 * one.plain.share]))
        if one.slack:
            down.append(([x, x], [y, max(0.0, y - 100 * one.slack)]))
        elif one.cell.bound and few:
            axes.annotate(
                "", xy=(x, y), xytext=(0, -24), textcoords="offset points", annotation_clip=False,
                arrowprops={"arrowstyle": "<|-", "color": _INK, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 4},
            )  # fmt: skip
    for some in [[line] for line in up] if few else [up]:
        axes.plot(*chained(some), color=_GREY, **thin)
        ends = [(x[1], y[1]) for x, y in some]
        if ends:
            axes.plot(*zip(*ends, strict=True), color=_GREY, linestyle="none", marker="_", markersize=7, **thin)
    for some in [[line] for line in down] if few else [down]:
        axes.plot(*chained(some), color=_SLACK, **bars)


def _plain(cell: Summary) -> Interval | None:
    return None if cell.plain is None else cell.attack(cell.plain)


def _slack(cell: Summary) -> float | None:
    """The upper end of what eight times the passes would break besides, as a share of all images."""
    found = None if cell.panel is None else cell.panel["slack"]
    return None if found is None else found["high"]


def _gini(cell: Summary) -> float | None:
    found = cell.measure("image", "gini")
    return None if found is None else found.value


def scale_of(cells: Sequence[Summary]) -> ScalarMappable | None:
    """Colours for the Gini of the image's gradient; None where no cell has one."""
    values = [value for cell in cells if (value := _gini(cell)) is not None]
    if not values:
        return None
    low, high = min(values), max(values)
    # A scale needs a length: one value alone stands on the scale of all that there may be.
    return ScalarMappable(Normalize(low, high) if low < high else Normalize(0, 1), "cividis")


def face(cell: Summary, scale: ScalarMappable | None) -> str:
    """The colour of a cell on that scale; white without a number."""
    value = _gini(cell)
    if value is None or scale is None:
        return "white"
    red, green, blue, _ = scale.to_rgba(np.array([value]))[0]
    return to_hex((red, green, blue))


def _legend(figure: Figure, axis: str, names: Sequence[str], cells: Sequence[Summary]) -> None:
    look: dict[str, Any] = {"linestyle": "none", "markeredgecolor": _INK, "markersize": 7}
    handles = [
        Line2D([], [], marker=_SHAPES[index % len(_SHAPES)], markerfacecolor=_GREY, label=f"{axis}: {name}", **look)
        for index, name in enumerate(names)
        if len(names) > 1
    ]
    if any(_gini(cell) is None for cell in cells):
        handles.append(Line2D([], [], marker="o", markerfacecolor="white", label="white: Gini not measured", **look))
    if any(_plain(cell) is not None for cell in cells):
        handles.append(Line2D([], [], color=_GREY, linewidth=0.9, label="up to: left by the plain attack"))
    if any(_slack(cell) for cell in cells):
        handles.append(Line2D([], [], color=_SLACK, linewidth=5, alpha=0.5, label="slack: may fall yet"))
    if any(cell.bound and not _slack(cell) for cell in cells):
        dark = {**look, "markerfacecolor": _INK, "markersize": 4}
        handles.append(Line2D([], [], marker="v", label=f"arrow: {BOUND}", **dark))
    above(figure, handles, 4)
