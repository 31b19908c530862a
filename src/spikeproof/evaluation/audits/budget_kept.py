"""D19: every proposal inside the budget and the box, and a number (AutoAttack's final check)."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from spikeproof.evaluation.audits._evidence import Audit, AuditResult, Subject
from spikeproof.victims.scene import BUDGET_TOLERANCE

__all__ = ["BudgetKept"]


@dataclass(frozen=True)
class BudgetKept(Audit):
    """The largest distance in the rows. The judge refuses a point outside at once; this reads what was written down.

    value: the largest distance.
    """

    code = "D19"
    title = "budget kept"
    means = "An attack that breaks its own rules makes a network look weaker than it is."
    mend = "Project in the attack: threat.project(x, x0)."
    breaks = "not evaluated"
    tier = "smoke"
    asks_gradient = False

    def __call__(self, subject: Subject) -> AuditResult:
        distances = [row["distance"] for row in subject.rows if not row.get("skipped")]
        if not distances:
            return self.absent("nothing was attacked")
        allowed = subject.threat.eps * (1 + 10 * BUDGET_TOLERANCE) + BUDGET_TOLERANCE  # rows hold six digits
        outside = sum(not (isfinite(d) and d <= allowed) for d in distances)
        says = f"{outside} of {len(distances)} proposals outside the budget"
        return self.found(outside > 0, says, value=max(distances), limit=allowed, n=len(distances))
