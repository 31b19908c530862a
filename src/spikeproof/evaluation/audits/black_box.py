"""D2: an attack that never sees a gradient must not find what the white box missed (AutoAttack's own alarm)."""

from __future__ import annotations

from dataclasses import dataclass

from spikeproof.evaluation.audits._evidence import Audit, AuditResult, Subject

__all__ = ["BlackBox"]


@dataclass(frozen=True)
class BlackBox(Audit):
    """Images that survive every white-box attack and that Square breaks."""

    code = "D2"
    title = "black box against white box"
    means = "Who knows the network must do no worse than who does not: else its gradients mislead."
    mend = "Publish the worst case over all attacks; more estimators, more queries."
    tier = "audit"

    limit: float = 0.002  # broken by Square alone (AutoAttack's alarm)

    def __call__(self, subject: Subject) -> AuditResult:
        count, total = subject.broken("black box")
        if not total:
            return self.absent("no black-box attack for this threat in this tier")
        return self.share(count, total, self.limit, "broken by an attack without gradients alone")
