"""Each configuration over its seeds, against the undefended one."""

from __future__ import annotations

from spikeproof.report._blocks import Grid, Paragraph, Section, text
from spikeproof.report._configurations import configurations_table
from spikeproof.report._findings import Findings

PLACE = 130

_TITLE = "Each configuration over its seeds"


def section(of: Findings) -> Section | None:
    found = configurations_table(of.cells)
    if found is None:
        return None
    centre, table = found
    words = text(
        """
        Means over seeds, and under them the least and the most of any seed; robust accuracy is at {}. Differences and
        quotients are taken seed by seed against <em>{}</em>, the undefended configuration that is most like the others,
        and then averaged, where the test data are the same; under a difference of worst cases stands its 95 % interval
        over seeds and images, one for each row: of twenty configurations that do nothing, one would have an interval
        beside 0.
        A defence that helps lifts the <em>worst case</em>. One that lifts only what stands left of it, the accuracy
        after attacks that know one surrogate gradient, has hidden its gradients. Red audits: in how many of the panels,
        one for each seed, each was red; they are red for undefended networks too, so compare before you conclude.
        """,
        of.threat, centre,
    )  # fmt: skip
    return Section("", [Grid(_TITLE, table, [Paragraph(words)])])
