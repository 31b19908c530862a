"""The paper's protocol and the pixel protocol side by side, where both were run."""

from __future__ import annotations

from spikeproof.report._blocks import Grid, Paragraph, Section, text
from spikeproof.report._findings import Findings
from spikeproof.report._tables import protocols_table

PLACE = 140

_WORDS = """
These are different threats, and their numbers must not be compared as if one were stricter than the other. The pixel
protocol changes the image, through the encoder, within eps of a pixel's range, and the network as deployed judges. The
paper's protocol changes the encoded tensor at every time step, where eps has no meaning in pixels, and takes its
gradients with batch-norm on the statistics of the batch under attack; these move the running statistics that then
judge. It counts every image that is right after the attack, whatever it was before. Beside that count stand the same
images counted as on the rest of this page (right when clean, then not fooled), and what the attacks found judged by
the network as deployed.
"""


def section(of: Findings) -> Section | None:
    table = protocols_table(of.cells)
    return None if table is None else Section("", [Grid("Two protocols", table, [Paragraph(text(_WORDS))])])
