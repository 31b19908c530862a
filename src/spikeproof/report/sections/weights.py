"""How sparse the gradients of the weights are."""

from __future__ import annotations

from spikeproof.report._blocks import Grid, Paragraph, Section, missing, text
from spikeproof.report._findings import Findings
from spikeproof.report._tables import weights_table

PLACE = 330

_TITLE = "Sparsity of the weight gradient"

_WORDS = """
Entries of a kernel that only ever see padding can never get a gradient. They are masked out before the measures are
taken, and their share is the last column; in the row <em>weights</em>, all weights together, it is the share of all
parameters.
"""


def section(of: Findings) -> Section:
    table = weights_table(of.cells)
    if table is None:
        return Section("", [missing(f"{_TITLE}: not measured")])
    return Section("", [Grid(_TITLE, table, [Paragraph(text(_WORDS))])])
