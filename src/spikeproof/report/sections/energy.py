"""What an inference of each network costs."""

from __future__ import annotations

from spikeproof.report._blocks import Grid, Paragraph, Section, text
from spikeproof.report._examined import energy_table
from spikeproof.report._findings import Findings

PLACE = 520

_WORDS = """
Means over test images, for one inference. The firing rate is spikes per neuron and step. Effective ACs and MACs are
inputs that are not zero times weights that are not zero, into layers whose input is spikes and into others, as
NeuroBench counts them; the energy is 0.9 pJ for an AC and 4.6 pJ for a MAC (45 nm, Horowitz 2014), an estimate of
arithmetic alone. <em>Dense</em> is every connection, as MACs.
"""


def section(of: Findings) -> Section | None:
    table = energy_table(of.cells)
    return None if table is None else Section("", [Grid("What an inference costs", table, [Paragraph(text(_WORDS))])])
