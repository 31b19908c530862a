"""D3: an attacker who may do anything must always win (Carlini et al. 2019; Pintor et al. 2022, I6)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from spikeproof.attacks.pgd import PGD
from spikeproof.audits._evidence import Audit, Finding, Subject

__all__ = ["Unbounded"]


@dataclass(frozen=True)
class Unbounded(Audit):
    """The plain PGD with the whole box as its ball; what survives gets ten times the steps."""

    code = "D3"
    title = "unbounded attack"
    means = "An attack that cannot win without limits says nothing where it has them."
    mend = "The gradients are unusable: try wider surrogates, other losses, attacks without gradients."
    breaks = "not evaluated"

    def __call__(self, subject: Subject) -> Finding:
        threat, steps = subject.unlimited(), max(subject.effort.steps, 20)
        left = n = 0
        for length in (steps, 10 * steps):
            case = replace(subject.case, attack=PGD(steps=length))
            rows = subject.attacked("unbounded", case, threat)
            n, left = len(rows), sum(not row["fooled"] for row in rows)
            if not left:
                break
        return self.share(left, n, subject.limits.unbounded, "survive an attack without a limit")
