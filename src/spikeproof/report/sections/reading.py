"""The results read out, and what stands in the way of comparing or believing them."""

from __future__ import annotations

from spikeproof.report import _reading
from spikeproof.report._blocks import Block, Box, Heading, Paragraph, Points, Section
from spikeproof.report._findings import Findings

PLACE = 30


def section(of: Findings) -> Section:
    said = _reading.read(of.cells, of.headline, tested=of.answers is not None)
    blocks: list[Block] = [Paragraph(" ".join(said), "reading")]
    warnings = _reading.warnings(of.cells, of.headline)
    if warnings:
        blocks.append(Box("warning", [Heading("Before you compare or believe"), Points(warnings)]))
    return Section("What the numbers say", blocks)
