"""What the numbers are, and what this page does not show."""

from __future__ import annotations

from spikeproof.report._blocks import Fold, Paragraph, Points, Section, text
from spikeproof.report._findings import Findings

PLACE = 230

_INTERVALS = """
<strong>Intervals</strong> are those of Clopper and Pearson at 95 %, over test images: they say what another draw of
images could change, not what another training seed could.
"""

_WORST = """
<strong>Worst case</strong>: an image counts as robust only if every attack in the evaluation fails on it. It is taken
image by image, so it is at most the accuracy under the best single attack.
"""

_CLEAN = """
<strong>Clean errors count as not robust.</strong> An image that is wrong before any attack is no success of the
network; success rates are given both among images right when clean and over all images.
"""

_NOT_SHOWN = """
<strong>What this page does not show.</strong> It shows the attacks that were run and no others{}. An attack that was
not run could do better, so every robust accuracy here is an upper bound on robustness, never a proof of it.
"""


def section(of: Findings) -> Section:
    panels = any(cell.numbers["panels"] for cell in of.cells)
    most = "" if panels else ", most of which follow one fixed surrogate gradient with full knowledge of the network"
    notes = Points([text(_INTERVALS), text(_WORST), text(_CLEAN)])
    return Section("", [Paragraph(text(_NOT_SHOWN, most)), Fold("How numbers and intervals are counted", "", [notes])])
