"""D9: images made for another network must not break what the white box could not (Carlini et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

from spikeproof.evaluation.audits._evidence import Audit, AuditResult, Subject

__all__ = ["Transfer"]


@dataclass(frozen=True)
class Transfer(Audit):
    """Images that survive every attack on the network itself and that one made for its smooth twin, or for another
    network that was given, breaks."""

    code = "D9"
    title = "transfer"
    means = "A network that falls to images made for another hides its own gradients."
    mend = "Publish the worst case with transfer in it; give more source networks."
    tier = "audit"
    given = "sources"

    limit: float = 0.005  # broken by images made for another network

    def __call__(self, subject: Subject) -> AuditResult:
        count, total = subject.broken("transfer")
        if not total:
            return self.absent("no source network in this tier")
        return self.share(count, total, self.limit, "broken by transferred images alone")
