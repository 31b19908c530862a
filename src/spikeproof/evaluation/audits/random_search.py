"""D10: random corners must not break what the white box could not (Carlini et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

from spikeproof.evaluation.audits._evidence import Audit, AuditResult, Subject

__all__ = ["RandomSearch"]


@dataclass(frozen=True)
class RandomSearch(Audit):
    """Images that survive the white-box attacks and that the best of many random corners breaks."""

    code = "D10"
    title = "random directions"
    means = "An attack that blind chance beats did not use the gradient it was given."
    mend = "Publish the worst case with random points in it; look for zero or wrong gradients."
    tier = "smoke"

    limit: float = 0.0  # broken by random corners alone

    def __call__(self, subject: Subject) -> AuditResult:
        count, total = subject.broken("random")
        if not total:
            return self.absent("not in this tier")
        return self.share(count, total, self.limit, "broken by random corners alone")
