"""How sure is each number: a line for each panel from the clean accuracy down to where its worst case may fall yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from spikeproof.metrics.summaries import PanelSummary
from spikeproof.metrics.verdict import SUPPORTED
from spikeproof.report._figures import chained
from spikeproof.report._labels import above
from spikeproof.report._summary import Summary
from spikeproof.report._text import MANY
from spikeproof.report._trust import attacks_of

__all__ = ["descents", "readings"]

_INK, _GREY, _SLACK = "#23272f", "#8a8f98", "#d55e00"


class _Descent(NamedTuple):
    """Shares of the images of one panel: right when clean, left by the plain attack, by all, and in the end."""

    name: str
    clean: float
    plain: float
    worst: float
    least: float | None
    sure: bool


def descents(cells: Sequence[Summary]) -> list[_Descent]:
    """Every panel that has a number, the lowest first; of too many, those at the headline alone."""
    every = [(cell, panel) for cell in cells for panel in cell.numbers["panels"]]
    if len(every) > MANY:
        every = [(cell, panel) for cell, panel in every if cell.panel is panel]
    found = [one for cell, panel in every if (one := _descent(cell, panel)) is not None]
    return sorted(found, key=lambda one: (one.worst, one.name))


def _descent(cell: Summary, panel: PanelSummary) -> _Descent | None:
    attacks = attacks_of(cell, panel)
    if attacks is None or attacks["worst"]["robust"] is None or panel["gap"] is None:
        return None
    worst, slack = attacks["worst"]["robust"]["share"], panel["slack"]
    return _Descent(
        f"{cell.label}, {panel['eps_text']}", attacks["clean"]["share"], worst + panel["gap"]["share"], worst,
        None if slack is None else max(0.0, worst - slack["high"]), panel["verdict"] == SUPPORTED,
    )  # fmt: skip


def readings(cells: Sequence[Summary]) -> Figure | None:
    """Shares of images (x, %), a line for each panel; None where no panel has a number."""
    found = descents(cells)
    if not found:
        return None
    few = len(found) <= MANY
    figure = Figure(figsize=(8.4, max(2.4, 0.23 * len(found) + 1.1) if few else 5.6), layout="constrained")
    axes = figure.add_subplot()
    _draw(axes, found, few=few)
    axes.set_yticks(range(len(found)) if few else [], [one.name for one in found] if few else [])
    axes.set_ylim(-0.7, len(found) - 0.3)
    axes.set_xlim(-2, 102)
    axes.set_xlabel("images (%)")
    axes.grid(axis="y", visible=False)
    above(figure, _legend(), 4)
    return figure


def _draw(axes: Axes, found: Sequence[_Descent], *, few: bool) -> None:
    """Each kind of line is one path over all rows: a path for each row takes ten times as long."""
    rows = list(enumerate(found))
    clean = chained(([100 * one.clean, 100 * one.worst], [row, row]) for row, one in rows)
    plain = chained(([100 * one.plain, 100 * one.worst], [row, row]) for row, one in rows)
    least = chained(([100 * one.worst, 100 * one.least], [row, row]) for row, one in rows if one.least is not None)
    axes.plot(*clean, color="#d5d8de", linewidth=0.8, zorder=1)
    axes.plot(*plain, color=_GREY, linewidth=1.6, zorder=2)
    axes.plot(
        [100 * one.plain for one in found], range(len(found)), color=_GREY, linestyle="none", marker="|", zorder=2
    )
    axes.plot(*least, color=_SLACK, alpha=0.5, linewidth=5 if few else 1.5, solid_capstyle="butt", zorder=2)
    for sure, face in ((True, _INK), (False, "white")):
        dots = [(100 * one.worst, row) for row, one in rows if one.sure == sure]
        if dots:
            axes.plot(*zip(*dots, strict=True), linestyle="none", marker="o", markersize=5 if few else 2.5, color=_INK,
                      markerfacecolor=face, zorder=3)  # fmt: skip


def _legend() -> list[Line2D]:
    return [
        Line2D([], [], linestyle="none", marker="o", markersize=5, color=_INK, label="worst case, supported"),
        Line2D([], [], linestyle="none", marker="o", markersize=5, color=_INK, markerfacecolor="white",
               label="unsettled"),
        Line2D([], [], color=_GREY, linewidth=1.6, marker="|", label="from what the plain attack left"),
        Line2D([], [], color=_SLACK, linewidth=5, alpha=0.5, label="slack: may fall yet"),
    ]  # fmt: skip
