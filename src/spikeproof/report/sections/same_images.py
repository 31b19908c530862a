"""Two networks on the same images, by McNemar's test."""

from __future__ import annotations

from spikeproof.report._blocks import Grid, Paragraph, Section, text
from spikeproof.report._findings import Findings
from spikeproof.report._same_images import same_images_table

PLACE = 160

_TITLE = "Two networks on the same images"

_WORDS = """
Intervals of two networks that overlap say little of their difference where the images are the same: those that both get
right, or both wrong, tell them apart nowhere. McNemar\u2019s exact test counts the images that only one of them gets
right; p is corrected by Holm\u2019s method for the rows of this table. It is about these networks: what other seeds
would give, it does not know. The worst case is at {}. Networks with less than half of the best clean accuracy of their
architecture are left out, and so are those that were attacked by another tier than most. Recordings in other frames or
cells are other images.
"""


def section(of: Findings) -> Section | None:
    table = same_images_table(of.cells)
    return None if table is None else Section("", [Grid(_TITLE, table, [Paragraph(text(_WORDS, of.threat))])])
