"""How sparse the gradient is at the input, at the encoded input and at the first layer."""

from __future__ import annotations

from spikeproof.report._blocks import Block, Grid, Paragraph, Section, missing, text
from spikeproof.report._findings import Findings
from spikeproof.report._tables import sparsity_table

PLACE = 320

_TITLE = "Sparsity of the input gradient"

_WORDS = """
Means over images, of the gradient summed over time, for three scalars: the cross-entropy (ce), the probability of the
true class, and the margin between its logit and the largest other. Where an all-zero gradient leaves a measure
undefined, the image is left out of its mean and counted below it. <em>Below 10⁻⁶</em> is the share of entries smaller
than that fraction of the largest; <em>participation</em> is (Σg²)² / Σg⁴, how many entries carry the gradient; Hoyer
and Gini are 0 for entries of one size and near 1 where a single entry carries all.
"""


def section(of: Findings) -> Section:
    in_eval, in_train = sparsity_table(of.cells, "eval"), sparsity_table(of.cells, "train")
    if in_eval is None and in_train is None:
        return Section("", [missing(f"{_TITLE}: not measured")])
    blocks: list[Block] = []
    above = [Paragraph(text(_WORDS))]
    if in_eval is not None:
        blocks.append(Grid(f"{_TITLE}, batch-norm in eval mode", in_eval, above))
    if in_train is not None:
        own = [*above, Paragraph("Statistics of the batch, as in the paper.")]
        blocks.append(Grid(f"{_TITLE}, batch-norm in train mode", in_train, own))
    return Section("", blocks)
