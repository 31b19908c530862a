"""D7: more steps and more restarts must not help (Carlini et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

from spikeproof.evaluation.audits._evidence import Audit, AuditResult, Subject

__all__ = ["MoreEffort"]


@dataclass(frozen=True)
class MoreEffort(Audit):
    """Images that survive the white-box attacks and that twice the steps or more restarts break."""

    code = "D7"
    title = "steps and restarts"
    means = "An attack that still gains by running longer has not converged: the number is too high."
    mend = "Take a higher tier; raise steps and restarts until doubling them gains nothing."
    tier = "audit"

    limit: float = 0.005  # broken by twice the steps or more restarts

    def __call__(self, subject: Subject) -> AuditResult:
        count, total = subject.broken("more effort")
        if not total:
            return self.absent("not in this tier")
        return self.share(count, total, self.limit, "broken by more steps or restarts alone")
