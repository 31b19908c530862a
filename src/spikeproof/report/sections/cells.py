"""Every cell in one row."""

from __future__ import annotations

from spikeproof.report._blocks import Grid, Paragraph, Section
from spikeproof.report._findings import Findings
from spikeproof.report._tables import cells_table

PLACE = 120


def section(of: Findings) -> Section:
    words = (
        f"Robust accuracy is at {of.threat}. In brackets: 95 % intervals, in percent. The area is that under "
        "worst-case robust accuracy against eps, divided by the range of eps, so 1 is a network that no budget harms."
    )
    return Section("", [Grid("All cells", cells_table(of.cells), [Paragraph(words)])])
