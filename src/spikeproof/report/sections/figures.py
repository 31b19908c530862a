"""The figures of every study: the trade-off, the budgets, the layers, the training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spikeproof.metrics.verdict import UNSETTLED
from spikeproof.report import _figures
from spikeproof.report._blocks import Drawing, Section
from spikeproof.report._figures import FEW
from spikeproof.report._findings import Findings
from spikeproof.report._summary import Summary
from spikeproof.report._text import BOUND, MANY, listed, threat

PLACE = 70
FIGURES = ("tradeoff", "curves", "layers", "training")


def section(of: Findings) -> Section:
    return Section("Figures", list(_drawings(of)))


def _drawings(of: Findings) -> Iterator[Drawing]:
    cells = of.cells
    probes = [found for cell in cells if (found := cell.measure("image", "zero_share")) is not None]
    probed = _range([probe.images + probe.undefined for probe in probes])
    evaluated = _range([cell.headline["images"] for cell in cells if cell.headline is not None and not cell.withheld])
    lines = " Colours tell kinds of cells, because there are so many." if len(cells) > MANY else ""
    yield _tradeoff(of, evaluated, probed)
    few = sum(cell.curve is not None for cell in cells) <= FEW
    bands = "Bands: 95 % intervals." if few else "The intervals of so many cells stand in the tables alone."
    yield Drawing(
        "curves", "Robust accuracy by budget",
        "Across: the attacker's budget eps; at 0 stands the clean accuracy of the same images. Up: worst-case "
        f"robust accuracy (n = {evaluated}). {bands} A line can only fall if the attacks are good."
        f"{_of_lines(cells)}{lines}",
        "Worst-case robust accuracy against eps, one line for each cell",
        _figures.curves(cells, of.headline),
    )  # fmt: skip
    yield Drawing(
        "layers", "Sparsity by layer",
        "Across: where the cross-entropy gradient is measured, the image first, then the encoded input, then what "
        "enters each layer. Up: share of entries that are exactly zero (above) and Gini index (below), of the "
        f"gradient summed over time, mean over images (n = {probed}), batch-norm in eval mode.{lines}",
        "Sparsity of the gradient by layer, one line for each cell",
        _figures.layers(cells),
    )  # fmt: skip
    yield Drawing(
        "training", "Training",
        "Across: epoch. Up: loss on training images (left) and accuracy on validation images (right). The dot is "
        f"the epoch whose weights were kept.{lines}",
        "Training loss and validation accuracy by epoch, one line for each cell",
        _figures.training(cells),
    )  # fmt: skip


def _tradeoff(of: Findings, evaluated: str, probed: str) -> Drawing:
    cells = of.cells
    at = "the headline" if of.headline is None else threat(of.headline, cells)
    tested = _range([test.total for cell in cells if (test := cell.clean("test")) is not None])
    many = len(cells) > MANY
    bars = "The intervals and names of so many cells stand in the tables" if many else "Thin bars: 95 % intervals"
    return Drawing(
        "tradeoff", "The trade-off",
        f"Across: accuracy on clean test images (n = {tested}). Up: share of images that are right when clean and "
        f"that no attack fools, at {at} (n = {evaluated}). {bars}. Colour: Gini index of the "
        f"cross-entropy gradient at the image, batch-norm in eval mode (mean over n = {probed}). One mark for each "
        f"cell; rest the pointer on it for its numbers.{_of_marks(cells)}",
        "Clean accuracy against worst-case robust accuracy, one mark for each cell",
        _figures.tradeoff(cells, of.headline),
        _figures.marks(cells),
    )  # fmt: skip


def _of_marks(cells: Sequence[Summary]) -> str:
    """What the verdicts did to the marks of the trade-off."""
    withheld = [cell.label for cell in cells if cell.withheld]
    bounds = sum(cell.bound for cell in cells)
    arrows = f" Arrow: {BOUND}." if bounds else ""
    if bounds and len(cells) > MANY:
        arrows = f" Of {len(cells)} cells {bounds} are {UNSETTLED}: their marks are upper bounds."
    return arrows + (f" Not evaluated, and so not drawn: {listed(withheld)}." if withheld else "")


def _of_lines(cells: Sequence[Summary]) -> str:
    """What the verdicts did to the lines against eps."""
    curves = [cell.curve for cell in cells if cell.curve is not None]
    hollow = f" Hollow: {BOUND}." if any(any(curve.bounds) for curve in curves) else ""
    holes = any(cell.withheld for cell in cells) or any(None in curve.points for curve in curves)
    return hollow + (" No line or a gap in it: not evaluated." if holes else "")


def _range(counts: Sequence[int]) -> str:
    if not counts:
        return "not measured"
    return str(counts[0]) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
