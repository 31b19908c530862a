"""Worst-case robust accuracy against the budget."""

from __future__ import annotations

from spikeproof.report import _figures
from spikeproof.report._blocks import Drawing, Section
from spikeproof.report._figures import FEW
from spikeproof.report._findings import Findings
from spikeproof.report._text import BOUND, between, by_kind

PLACE = 110
FIGURES = ("curves",)


def section(of: Findings) -> Section:
    cells = of.cells
    evaluated = between([cell.headline["images"] for cell in cells if cell.headline is not None and not cell.withheld])
    few = sum(cell.curve is not None for cell in cells) <= FEW
    bands = "Bands: 95 % intervals." if few else "The intervals of so many cells stand in the tables alone."
    caption = (
        "Across: the attacker's budget eps; at 0 stands the clean accuracy of the same images. Up: worst-case robust "
        f"accuracy (n = {evaluated}). {bands} A line can only fall if the attacks are good.{_verdicts(of)}"
        f"{by_kind(cells)}"
    )
    label = "Worst-case robust accuracy against eps, one line for each cell"
    figure = _figures.curves(cells, of.headline)
    return Section("", [Drawing("curves", "Robust accuracy by budget", caption, label, figure)])


def _verdicts(of: Findings) -> str:
    """What the verdicts did to the lines."""
    curves = [cell.curve for cell in of.cells if cell.curve is not None]
    hollow = f" Hollow: {BOUND}." if any(any(curve.bounds) for curve in curves) else ""
    holes = any(cell.withheld for cell in of.cells) or any(None in curve.points for curve in curves)
    return hollow + (" No line or a gap in it: not evaluated." if holes else "")
