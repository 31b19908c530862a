"""The figures of the section on the trade-off, each a pure function from the answers to a Figure, or None."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from spikeproof.metrics.resampling import Bounds, Estimate
from spikeproof.report._claims import SCALE, SHAPES
from spikeproof.report._design import MEASURES, OUTCOMES, SITES, Design, measured
from spikeproof.report._figures import chained
from spikeproof.report._labels import above, place
from spikeproof.report._text import BOUND, MANY, number, percent
from spikeproof.report._tradeoff import POOLED, Answers, Front, Mark

__all__ = ["MARK", "forest", "pareto", "shape", "titles"]

MARK = "network-"
"""Prefix of the gid of each network's mark; row of the panel, seed and configuration follow."""

_INK, _GREY, _BLUE, _ORANGE = "#23272f", "#8a8f98", "#0072B2", "#D55E00"
_SHAPES = {"max": "o", "avg": "s"}
_ACROSS = 3
"""Panels side by side."""


def titles(answers: Answers) -> dict[str, str]:
    """gid -> the words on hover of each mark of `shape`."""
    grid, gini, l1 = answers.design, measured(*SHAPES[0]), measured(*SCALE)
    found: dict[str, str] = {}
    for (seed, place_), cell in grid.cells.items():
        values = [value(cell) for value in (gini, l1, OUTCOMES["robust"][1], OUTCOMES["clean"][1])]
        told = ["not measured" if v is None else number(v) for v in values[:2]]
        told += ["not measured" if v is None else percent(v) for v in values[2:]]
        told[2] = f"at most {told[2]} ({BOUND})" if cell.bound and values[2] is not None else told[2]
        text = f"{cell.label}: Gini {told[0]}, l1 {told[1]}, robust accuracy {told[2]}, clean test accuracy {told[3]}"
        found |= {f"{MARK}{row}-{seed}-{place_}": text for row in (0, 1)}
    return found


def shape(answers: Answers) -> Figure | None:
    """Robust and clean accuracy (y, %) against the input gradient's Gini (x), coloured by its l1, by architecture."""
    grid = answers.design
    x, colour = grid.table(measured(*SHAPES[0])), grid.table(measured(*SCALE))
    outcomes = [grid.table(OUTCOMES[name][1]) for name in ("robust", "clean")]
    positive = colour[np.isfinite(colour) & (colour > 0)]
    if not np.isfinite(x).any() or len(positive) == 0:
        return None
    scale = ScalarMappable(LogNorm(*_apart(float(positive.min()), float(positive.max()))), "cividis")
    figure, rows = _panels(len(grid.architectures))
    for architecture, pair in enumerate(rows):
        inside = [n for n, c in enumerate(grid.configurations) if c.architecture == architecture]
        for row, (axes, y) in enumerate(zip(pair, outcomes, strict=True)):
            measured_ = np.isfinite(x) & np.isfinite(y)
            shown = [(s, n) for s in range(len(grid.seeds)) for n in inside if measured_[s, n]]
            for marker, places in _in_calls(grid, shown, few=len(grid.cells) <= MANY):
                colours = [float(colour[where]) for where in places]
                axes.scatter(
                    [x[where] for where in places], [100 * y[where] for where in places], s=30, marker=marker,
                    facecolors=[_colour(scale, one) if one > 0 else "white" for one in colours],
                    edgecolors=_INK, linewidths=0.5, gid=" ".join(f"{MARK}{row}-{s}-{n}" for s, n in places),
                )  # fmt: skip
            axes.set_ylabel("robust accuracy (%)" if row == 0 else "clean test accuracy (%)")
        pair[0].set_title(grid.architectures[architecture])
        pair[1].set_xlabel("Gini of the input gradient (right: sparser)")
    _log_bar(figure, scale, [axes for pair in rows for axes in pair])
    pools = dict.fromkeys(c.pool for c in grid.configurations)
    _marks_legend(figure, {f"pool: {pool}": _SHAPES.get(pool, "^") for pool in pools})
    return figure


def _in_calls(grid: Design, shown: list[tuple[int, int]], *, few: bool) -> Iterator[tuple[str, list[tuple[int, int]]]]:
    """Marker and places of what is drawn by one call: a single mark, or all of one shape where they are many."""
    together: dict[str, list[tuple[int, int]]] = {}
    for seed, n in shown:
        marker = _SHAPES.get(grid.configurations[n].pool, "^")
        if few:
            yield marker, [(seed, n)]
        else:
            together.setdefault(marker, []).append((seed, n))
    yield from together.items()


def forest(answers: Answers) -> Figure | None:
    """Rank correlations (x) of robust and of clean accuracy with every measure (rows), plain and at fixed scale."""
    places = [(site, metric) for site in SITES for metric in MEASURES]
    shown = [
        where for where in places
        if any((of := answers.of(POOLED, name, where)) is not None and of.plain.value is not None for name in _TWO)
    ]  # fmt: skip
    if not shown:
        return None
    figure = Figure(figsize=(8.4, 1.6 + 0.27 * (len(shown) + 1)), layout="constrained")
    panels: list[Axes] = list(figure.subplots(1, 2, sharey=True))
    heights = [-float(index) for index in range(len(shown))]
    last = heights[-1] - 1.5
    for axes, name in zip(panels, _TWO, strict=True):
        axes.axvline(0, color=_GREY, linewidth=1)
        for height, where in zip(heights, shown, strict=True):
            of = answers.of(POOLED, name, where)
            if of is not None:
                _bar(axes, height + 0.17, of.plain, _GREY, hollow=True)
                _bar(axes, height - 0.17, of.shape, _BLUE)
        primary = answers.of(POOLED, name, SHAPES[0])
        if primary is not None:
            _bar(axes, last + 0.17, primary.scale_plain, _GREY, hollow=True)
            _bar(axes, last - 0.17, primary.scale, _ORANGE)
        axes.set_xlim(-1.05, 1.05)
        axes.set_title(f"with {OUTCOMES[name][0]}")
        axes.set_xlabel("rank correlation")
    panels[0].set_yticks(
        [*heights, last],
        [*(f"{MEASURES[metric].name} {SITES[site]}" for site, metric in shown), "l1 at the input (larger)"],
    )
    panels[0].set_ylim(last - 0.7, 0.7)
    _forest_legend(figure, answers.unit)
    return figure


_TWO = ("robust", "clean")


def pareto(answers: Answers) -> Figure | None:
    """Configurations on the plane of clean (x, %) and robust accuracy (y, %), architectures apart, with the front."""
    if not answers.fronts:
        return None
    across = min(len(answers.fronts), 2)
    down = -(-len(answers.fronts) // across)
    figure = Figure(figsize=(8.4, 4.6 * down), layout="constrained")
    panels: list[Axes] = list(figure.subplots(down, across, squeeze=False).flat)
    scale = ScalarMappable(Normalize(0, 100), "cividis")
    for axes, found in zip(panels, answers.fronts, strict=False):
        _one_front(axes, found, scale)
    for axes in panels[len(answers.fronts) :]:
        axes.set_visible(False)
    figure.colorbar(scale, ax=panels, pad=0.02, aspect=40, label="on the front in this share of resamples (%)")
    _marks_legend(figure, {f"pool: {p}": _SHAPES.get(p, "^") for p in _pools(answers)})
    for axes, found in zip(panels, answers.fronts, strict=False):
        named = [(index, mark) for index, mark in enumerate(found.marks) if mark.on_front or len(found.marks) <= 12]
        points = [(100 * mark.clean, 100 * mark.robust) for _, mark in named]
        place(figure, axes, points, [str(index + 1) for index, _ in named])
    return figure


def _pools(answers: Answers) -> dict[str, None]:
    return dict.fromkeys(mark.configuration.pool for found in answers.fronts for mark in found.marks)


def _one_front(axes: Axes, found: Front, scale: ScalarMappable) -> None:
    across = [(_percent(mark.over_clean), [100 * mark.robust] * 2) for mark in found.marks]
    up = [([100 * mark.clean] * 2, _percent(mark.over_robust)) for mark in found.marks]
    axes.plot(*chained([*across, *up]), color=_GREY, linewidth=0.7, alpha=0.6)
    together: dict[str, list[Mark]] = {}
    for mark in found.marks:
        together.setdefault(_SHAPES.get(mark.configuration.pool, "^"), []).append(mark)
    for marker, marks in together.items():
        axes.scatter(
            [100 * mark.clean for mark in marks], [100 * mark.robust for mark in marks], s=46, marker=marker,
            facecolors=[_colour(scale, 100 * mark.chance) for mark in marks], edgecolors=_INK, linewidths=0.7, zorder=3,
        )  # fmt: skip
    best = sorted((100 * mark.clean, 100 * mark.robust) for mark in found.marks if mark.on_front)
    axes.plot(*zip(*best, strict=True), color=_ORANGE, linewidth=1.2, zorder=2)
    axes.set_title(found.architecture)
    axes.set_xlabel("clean test accuracy (%)")
    axes.set_ylabel("worst-case robust accuracy (%)")
    axes.margins(0.08)


def _percent(bounds: Bounds) -> list[float]:
    return [100 * min(1.0, max(0.0, end)) for end in bounds]


def _panels(architectures: int) -> tuple[Figure, list[tuple[Axes, Axes]]]:
    """Two panels, one above the other, for each architecture."""
    across = min(architectures, _ACROSS)
    blocks = -(-architectures // across)
    figure = Figure(figsize=(8.4, 5.6 * blocks), layout="constrained")
    axes = figure.subplots(2 * blocks, across, squeeze=False, sharex="col")
    places = [(2 * (n // across), n % across) for n in range(architectures)]
    pairs = [(axes[row, column], axes[row + 1, column]) for row, column in places]
    for n in range(architectures, blocks * across):
        for row in (0, 1):
            axes[2 * (n // across) + row, n % across].set_visible(False)
    return figure, pairs


def _log_bar(figure: Figure, scale: ScalarMappable, panels: list[Axes]) -> None:
    """A colour bar with plain numbers at even steps of the logarithm: formulas are switched off in these figures."""
    ticks = np.geomspace(scale.norm.vmin or 1.0, scale.norm.vmax or 1.0, 6)
    bar = figure.colorbar(scale, ax=panels, pad=0.02, aspect=40, label="l1 of the input gradient", ticks=ticks)
    bar.set_ticks(ticks.tolist(), labels=[f"{tick:.2g}" for tick in ticks])
    bar.ax.minorticks_off()


def _colour(scale: ScalarMappable, value: float) -> str:
    red, green, blue, _ = scale.to_rgba(np.array([value]))[0]
    return to_hex((red, green, blue))


def _apart(low: float, high: float) -> tuple[float, float]:
    """A scale needs a length."""
    return (low, high) if high > low else (0.9 * low, 1.1 * high)


def _bar(axes: Axes, height: float, found: Estimate, colour: str, *, hollow: bool = False) -> None:
    """A point with its two intervals: thin over configurations, thick over seeds."""
    if found.value is None:
        return
    for bounds, width in ((found.over_units, 0.9), (found.over_seeds, 3.0)):
        if bounds is not None:
            ends = [min(1.0, max(-1.0, end)) for end in bounds]
            axes.plot(ends, [height, height], color=colour, linewidth=width, alpha=0.55 if width > 1 else 1.0,
                      solid_capstyle="butt")  # fmt: skip
    axes.plot([found.value], [height], marker="o", markersize=4.2, color=colour, markeredgewidth=1.0,
              markerfacecolor="white" if hollow else colour)  # fmt: skip


def _marks_legend(figure: Figure, shapes: dict[str, str]) -> None:
    look: dict[str, Any] = {"linestyle": "none", "markeredgecolor": _INK, "markerfacecolor": _GREY, "markersize": 6}
    handles = [Line2D([], [], marker=shape, label=label, **look) for label, shape in shapes.items()]
    above(figure, handles, 6)


def _forest_legend(figure: Figure, unit: str) -> None:
    dot: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 5}
    handles = [
        Line2D([], [], color=_GREY, markerfacecolor="white", label="as it is", **dot),
        Line2D([], [], color=_BLUE, label="l1 held fixed", **dot),
        Line2D([], [], color=_ORANGE, label="Gini held fixed", **dot),
        Line2D([], [], color=_INK, linewidth=3, alpha=0.55, label="over seeds"),
        Line2D([], [], color=_INK, linewidth=0.9, label=f"over {unit}"),
    ]
    above(figure, handles, 5)
