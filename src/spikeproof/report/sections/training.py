"""Loss and accuracy from epoch to epoch."""

from __future__ import annotations

from spikeproof.report import _figures
from spikeproof.report._blocks import Drawing, Section
from spikeproof.report._findings import Findings
from spikeproof.report._text import by_kind

PLACE = 510
FIGURES = ("training",)


def section(of: Findings) -> Section:
    caption = (
        "Across: epoch. Up: loss on training images (left) and accuracy on validation images (right). The dot is the "
        f"epoch whose weights were kept.{by_kind(of.cells)}"
    )
    label = "Training loss and validation accuracy by epoch, one line for each cell"
    return Section("", [Drawing("training", "Training", caption, label, _figures.training(of.cells))])
