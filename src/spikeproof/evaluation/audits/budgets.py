"""D4: accuracy must fall as the budget grows, and reach nothing (Carlini et al. 2019)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from math import sqrt

from spikeproof.evaluation.audits._evidence import Audit, AuditResult, Subject
from spikeproof.evaluation.audits._reach import falls_short
from spikeproof.types import Threat

__all__ = ["Budgets"]

_MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


@dataclass(frozen=True)
class Budgets(Audit):
    """The plain attack at eps times 1/4 .. 16, and without a limit. Red: a rise of more than two standard errors, or a
    flat stretch: four points in a row without a change while more than a tenth still stand, below the top of the curve
    or in a curve that never falls. value: the largest rise."""

    code = "D4"
    title = "accuracy against budget"
    means = "More room cannot help the defender; where it seems to, an attack has not converged."
    mend = "Take the lowest accuracy at any smaller budget as the bound; more steps; another step size."
    tier = "standard"

    def unfit_for(self, threat: Threat) -> str:
        return falls_short(threat)

    def __call__(self, subject: Subject) -> AuditResult:
        full = subject.unlimited().eps
        radii = sorted({*(min(subject.threat.scaled(m).eps, full) for m in _MULTIPLES), full})
        shares, n = [], 0
        for eps in radii:
            threat = replace(subject.threat, eps=eps)
            rows = subject.attacked(f"budget {eps:.6g}", subject.case, threat)
            n = len(rows)
            shares.append(sum(not row["fooled"] for row in rows) / max(n, 1))
        rise = max([b - a for a, b in itertools.pairwise(shares)], default=0.0)
        error = 2 * max([sqrt(s * (1 - s) / max(n, 1)) for s in shares], default=0.0)
        flat = any(_flat(shares[i : i + 4], max(shares), min(shares)) for i in range(len(shares) - 3))
        curve = {f"{eps:.4g}": round(share, 4) for eps, share in zip(radii, shares, strict=True)}
        says = f"largest rise {100 * max(rise, 0.0):.1f} points" + (", and a flat stretch" if flat else "")
        return self.found(rise > error or flat, says, value=max(rise, 0.0), limit=error, n=n, curve=curve)


def _flat(window: list[float], top: float, bottom: float) -> bool:
    return max(window) == min(window) > 0.1 and (window[0] < top or top == bottom)
