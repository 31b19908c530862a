"""D1: one large step must not beat many small ones (Athalye et al. 2018; Carlini et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

from spikeproof.evaluation.audits._evidence import Audit, AuditResult, Subject
from spikeproof.evaluation.plain import plain_names

__all__ = ["OneStep"]


@dataclass(frozen=True)
class OneStep(Audit):
    """Images that FGSM breaks and PGD, on the same images at the same budget, does not; of whole events, the top events
    of one gradient and those of many rounds."""

    code = "D1"
    title = "one step against many"
    means = "An iterated attack that loses to its own first step is led astray by its gradients."
    mend = "Report the worst case over estimators; look at the step size and at the surrogate."
    tier = "smoke"

    limit: float = 0.01  # broken by one step and not by many

    def __call__(self, subject: Subject) -> AuditResult:
        one, many = ({row["image"] for row in subject.ran(role) if row["fooled"]} for role in ("one step", "plain"))
        step, steps = plain_names(subject.threat)
        return self.share(len(one - many), len(subject.x), self.limit, f"broken by {step} and not by {steps}")
