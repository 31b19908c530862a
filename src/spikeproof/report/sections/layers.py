"""Sparsity of the gradient from the image inward."""

from __future__ import annotations

from spikeproof.report import _figures
from spikeproof.report._blocks import Drawing, Section
from spikeproof.report._findings import Findings
from spikeproof.report._text import between, by_kind

PLACE = 310
FIGURES = ("layers",)


def section(of: Findings) -> Section:
    probes = [found for cell in of.cells if (found := cell.measure("image", "zero_share")) is not None]
    probed = between([probe.images + probe.undefined for probe in probes])
    caption = (
        "Across: where the cross-entropy gradient is measured, the image first, then the encoded input, then what "
        "enters each layer. Up: share of entries that are exactly zero (above) and Gini index (below), of the gradient "
        f"summed over time, mean over images (n = {probed}), batch-norm in eval mode.{by_kind(of.cells)}"
    )
    label = "Sparsity of the gradient by layer, one line for each cell"
    return Section("", [Drawing("layers", "Sparsity by layer", caption, label, _figures.layers(of.cells))])
