"""D3: an attacker who may do anything must always win (Carlini et al. 2019; Pintor et al. 2022, I6)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from spikeproof.evaluation.audits._evidence import Audit, AuditResult, Subject
from spikeproof.evaluation.audits._reach import falls_short
from spikeproof.evaluation.plain import plain_attack
from spikeproof.types import Threat

__all__ = ["Unbounded"]


@dataclass(frozen=True)
class Unbounded(Audit):
    """The plain attack with the whole box as its ball and, where anything survives, again with ten times the steps."""

    code = "D3"
    title = "unbounded attack"
    means = "An attack that cannot win without limits says nothing where it has them."
    mend = "The gradients are unusable: try wider surrogates, other losses, attacks without gradients."
    breaks = "not evaluated"
    tier = "smoke"

    limit: float = 0.0  # surviving an attack that may do anything

    def unfit_for(self, threat: Threat) -> str:
        return falls_short(threat)

    def __call__(self, subject: Subject) -> AuditResult:
        threat, steps = subject.unlimited(), max(subject.effort.steps, 20)
        fooled: list[bool] = []
        for length in (steps, 10 * steps):
            rows = subject.attacked("unbounded", replace(subject.case, attack=plain_attack(threat, length)), threat)
            fooled = [row["fooled"] or (i < len(fooled) and fooled[i]) for i, row in enumerate(rows)]
            if all(fooled):
                break
        left = sum(not fell for fell in fooled)
        return self.share(left, len(fooled), self.limit, "survive an attack without a limit")
