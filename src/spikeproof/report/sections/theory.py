"""What the gradient predicts of the network, beside what was measured on it."""

from __future__ import annotations

from spikeproof.report._blocks import Block, Drawing, Grid, Paragraph, Section, text
from spikeproof.report._examined import ratios, theory_table
from spikeproof.report._findings import Findings

PLACE = 340
FIGURES = ("theory",)

_RATIOS = """
One dot for each image. Across: how many times the largest squared change of the true class's probability in the ball
exceeds its mean over noise, as the surrogate gradient g predicts for a linear function. Up: the same as measured on
the exact network. On the line they agree; below it an attack gains less over noise than the gradient promises.
"""

_BOUNDS = """
Share of weights whose gradient is not zero, and what can be proved of it: it is at most the <em>support</em>, the
weights that some non-zero input and some non-zero gradient of the output (<em>delta</em>) meet, and that is at most
the rows times the columns that have one, and at most the number of meetings. Means over images.
"""


def section(of: Findings) -> Section | None:
    figure, table = ratios(of.cells), theory_table(of.cells)
    blocks: list[Block] = []
    if figure is not None:
        label = "Measured against predicted ratio of attack to noise, one dot for each image"
        blocks.append(Drawing("theory", "Attack against noise", text(_RATIOS), label, figure))
    if table is not None:
        blocks += [Grid("Density of the weight gradient and its bounds", table, [Paragraph(text(_BOUNDS))])]
    return Section("", blocks) if blocks else None
