"""The page in one screen: the main figure, a sentence on each network, and the three readings."""

from __future__ import annotations

from collections.abc import Sequence

from spikeproof.metrics.verdict import UNSETTLED
from spikeproof.report import _answer, _overview_figure, _reading
from spikeproof.report._blocks import Block, Box, Drawing, Fold, Grid, Heading, Paragraph, Points, Section, text
from spikeproof.report._findings import Findings
from spikeproof.report._summary import Summary
from spikeproof.report._text import MANY, between, listed

PLACE = 10
FIGURES = ("tradeoff",)

_FEW = 12
"""Up to so many cells, each has its sentence in sight, and is named in the caption."""

_WHAT = """
Each cell on this page is one spiking neural network, trained and then attacked in one fully stated way. Its robust
accuracy is the share of test images that it gets right and that none of the attacks could turn into an error within
the stated budget (here {}). Beside it stand how accurate the network is on untouched images and how sparse its input
gradients are, the signal that most attacks follow, because a sparse gradient can mean a network that is hard to fool or
only an attacker who cannot see.
"""

_READINGS = """
<em>Gap</em>: images that the plain attack left and the others broke, a finding about the usual protocol.
<em>Power</em>: how many of the adversarial examples that are there by construction the attacks find.
<em>Slack</em>: at most how many more images an attacker with eight times the passes would break. {} The verdict is on
the number, not on the network: <em>supported</em> says that it holds, and one near 0 always does. An interval in
brackets is of the images alone, and knows nothing of attacks that were not run.
"""


def section(of: Findings) -> Section:
    said = _reading.read(of.cells, of.headline, tested=of.answers is not None)
    blocks: list[Block] = [Paragraph(" ".join(said), "reading"), _figure(of), *_sentences(of.cells)]
    table = _answer.readings_table(_answer.ranked(of.cells))
    if table is not None:
        blocks.append(Paragraph(text(_READINGS, of.threat[0].upper() + of.threat[1:] + ".")))
        blocks.append(Grid("The three readings", table, unfolded=len(table.rows) <= _FEW))
    warnings = _reading.warnings(of.cells, of.headline)
    if warnings:
        blocks.append(Box("warning", [Heading("Before you compare or believe", level=2), Points(warnings)]))
    blocks.append(Fold("What a cell is and what its numbers are", "", [Paragraph(text(_WHAT, of.threat))]))
    return Section("", blocks)


def _sentences(cells: Sequence[Summary]) -> list[Block]:
    said = [_answer.sentence(cell) for cell in _answer.ranked(cells)]
    if len(said) <= _FEW:
        return [Points(said)]
    return [
        Paragraph(_answer.counted(cells)),
        Fold("Each network in a sentence", f"{len(said)} networks", [Points(said)]),
    ]


def _bounds(cells: Sequence[Summary]) -> str:
    """Which marks are upper bounds."""
    some = [cell.label for cell in cells if cell.bound]
    if not some:
        return ""
    every = f"all {len(some)}" if len(some) == len(cells) > 1 else str(len(some))
    return f" {UNSETTLED.capitalize()}, so an upper bound: {listed(some) if len(some) <= _FEW else every}."


def _figure(of: Findings) -> Drawing:
    cells = of.cells
    probes = [found for cell in cells if (found := cell.measure("image", "gini")) is not None]
    probed = between([probe.images + probe.undefined for probe in probes])
    tested = between([test.total for cell in cells if (test := cell.clean("test")) is not None])
    evaluated = between([cell.headline["images"] for cell in cells if cell.headline is not None and not cell.withheld])
    many = f" Of so many cells ({len(cells)}) the names and intervals stand in the tables." if len(cells) > MANY else ""
    withheld = [cell.label for cell in cells if cell.withheld]
    unnamed = len(withheld) > _FEW
    absent = f" Not evaluated, and so not drawn: {len(withheld) if unnamed else listed(withheld)}." if withheld else ""
    caption = (
        f"Clean test accuracy (across, n = {tested}) against worst-case robust accuracy (up, {of.threat}, "
        f"n = {evaluated}). The line goes up to what the plain attack left, the bar down to where it may fall yet. "
        f"Colour: Gini index of the gradient at the input (n = {probed}). A mark tells its numbers on hover and focus."
        f"{many}{_bounds(cells)}{absent}"
    )
    return Drawing(
        "tradeoff", "How accurate, how robust", caption,
        "Clean accuracy against worst-case robust accuracy, one mark for each cell",
        _overview_figure.overview(cells, of.headline), _overview_figure.marks(cells), told=True,
    )  # fmt: skip
