"""How far each network reaches beyond its training images."""

from __future__ import annotations

from spikeproof.report._blocks import Grid, Paragraph, Section, text
from spikeproof.report._examined import generalisation_table
from spikeproof.report._findings import Findings

PLACE = 150

_WORDS = """
The gaps are accuracy on training images less that on test images, clean and under one plain PGD, with Newcombe's 95 %
interval over images. <em>Corrupted</em> is the mean accuracy over common corruptions and their five severities
(Hendrycks and Dietterich 2019), with a normal interval over images; the drop is from the same images untouched.
"""


def section(of: Findings) -> Section | None:
    table = generalisation_table(of.cells)
    if table is None:
        return None
    return Section("", [Grid("Generalisation", table, [Paragraph(text(_WORDS))])])
