"""D1: one large step must not beat many small ones (Athalye et al. 2018; Carlini et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

from spikeproof.evaluation.audits._evidence import Audit, Finding, Subject

__all__ = ["OneStep"]


@dataclass(frozen=True)
class OneStep(Audit):
    """Images that FGSM breaks and PGD, on the same images at the same budget, does not."""

    code = "D1"
    title = "one step against many"
    means = "An iterated attack that loses to its own first step is led astray by its gradients."
    mend = "Report the worst case over estimators; look at the step size and at the surrogate."

    def __call__(self, subject: Subject) -> Finding:
        first = [row for row in subject.rows if row["group"] == "first" and row["fooled"]]
        one, many = ({row["image"] for row in first if row["attack"].startswith(kind)} for kind in ("fgsm", "pgd"))
        says = "broken by FGSM and not by PGD"
        return self.share(len(one - many), len(subject.x), subject.limits.one_step_only, says)
