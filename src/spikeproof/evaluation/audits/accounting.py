"""D20: whatever a weak attack breaks, a strong one must break too (Carlini et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

from spikeproof.evaluation.audits._evidence import Audit, AuditResult, Subject
from spikeproof.evaluation.roles import GROUPS, Role

__all__ = ["Accounting"]

_WEAK: tuple[Role, ...] = ("one step", "random", "black box")


@dataclass(frozen=True)
class Accounting(Audit):
    """Images that FGSM, random corners or Square broke and no iterated white-box attack did. The list is in the detail.

    FGSM and the plain PGD see every image; the other attacks see what those left.
    """

    code = "D20"
    title = "accounting"
    means = "Images that only weak attacks break say that the strong ones are not strong here."
    mend = "Look at these images; run the strong attacks on all of them."
    tier = "standard"

    limit: float = 0.01  # broken by a weak attack and by none of the strong

    def __call__(self, subject: Subject) -> AuditResult:
        weak, strong = subject.fresh(*_WEAK), subject.fresh(*(role for role in GROUPS if role not in _WEAK))
        only = sorted(weak - strong)
        says = "broken by weak attacks alone"
        return self.share(len(only), len(subject.x), self.limit, says, images=only[:50])
