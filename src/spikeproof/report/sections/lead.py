"""What a cell is and what its two numbers are."""

from __future__ import annotations

from spikeproof.report._blocks import Paragraph, Section, text
from spikeproof.report._findings import Findings

PLACE = 20


def section(of: Findings) -> Section:
    words = text(
        """
        Each cell on this page is one spiking neural network, trained and then attacked in one fully stated way. Its
        robust accuracy is the share of test images that it gets right and that none of the attacks could turn into an
        error within the stated budget (here {}). Beside it stand how accurate the network is on untouched images and
        how sparse its input gradients are, the signal that most attacks follow, because a sparse gradient can mean a
        network that is hard to fool or only an attacker who cannot see.
        """,
        of.threat,
    )
    return Section("", [Paragraph(words, "lead")])
