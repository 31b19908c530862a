"""The dense twin: the same network with every source of false zeros taken out of the backward pass (our own)."""

from __future__ import annotations

from dataclasses import dataclass

from spikeproof.evaluation.audits._evidence import Audit, AuditResult, Subject

__all__ = ["DenseTwin"]


@dataclass(frozen=True)
class DenseTwin(Audit):
    """Images that the plain attack leaves and that a wide surrogate with tie-spread pooling breaks."""

    code = "D6t"
    title = "dense twin"
    means = "If denser gradients of the same network break it, the sparse ones hid the way."
    mend = "Publish the worst case with the dense twin in it."
    tier = "quick"

    limit: float = 0.02  # broken only by the densest gradients of the same network

    def __call__(self, subject: Subject) -> AuditResult:
        count, total = subject.broken("dense twin")
        if not total:
            return self.absent("no dense twin in this tier")
        return self.share(count, total, self.limit, "broken by the dense twin's gradients first")
