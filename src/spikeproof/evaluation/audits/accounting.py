"""D20: whatever a weak attack breaks, a strong one must break too (Carlini et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

from spikeproof.evaluation.audits._evidence import Audit, Finding, Subject
from spikeproof.rows import AttackRow

__all__ = ["Accounting"]


@dataclass(frozen=True)
class Accounting(Audit):
    """Images that FGSM, random corners or Square broke and no iterated white-box attack did. The list is in the detail.

    FGSM and the plain PGD see every image; the other attacks see what those left.
    """

    code = "D20"
    title = "accounting"
    means = "Images that only weak attacks break say that the strong ones are not strong here."
    mend = "Look at these images; run the strong attacks on all of them."

    def __call__(self, subject: Subject) -> Finding:
        broke = [row for row in subject.rows if row["fooled"] and not row.get("skipped")]
        weak = {row["image"] for row in broke if _weak(row)}
        only = sorted(weak - {row["image"] for row in broke if not _weak(row)})
        says = "broken by weak attacks alone"
        return self.share(len(only), len(subject.x), subject.limits.accounting, says, images=only[:50])


def _weak(row: AttackRow) -> bool:
    return row["group"] in ("random", "black box") or row["attack"].startswith("fgsm")
