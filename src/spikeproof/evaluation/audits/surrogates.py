"""D8: the surrogate of training is one of many; what do the others see? (Lee et al.; Bu et al. 2023; ASSG)."""

from __future__ import annotations

from dataclasses import dataclass

from spikeproof.evaluation.audits._evidence import Audit, AuditResult, Subject
from spikeproof.evaluation.plain import plain_names
from spikeproof.victims.victim import Victim

__all__ = ["Surrogates"]


@dataclass(frozen=True)
class Surrogates(Audit):
    """Images that PGD under the rule of training leaves and that some other estimator or slope breaks."""

    code = "D8"
    title = "surrogate sweep"
    means = "The surrogate's gradient is a fiction of the attacker: under another one the network falls."
    mend = "Publish the worst case over estimators, never the accuracy under one."
    tier = "quick"

    limit: float = 0.05  # broken by some estimator and not by that of training

    def unfit(self, victim: Victim) -> str:
        return "every rule gives this network's own gradient" if victim.one_gradient else ""

    def __call__(self, subject: Subject) -> AuditResult:
        count, total = subject.broken("dense twin", "white box")
        if not total:
            return self.absent("one estimator alone in this tier")
        plain = plain_names(subject.threat)[1]
        says = f"left by {plain} under the rule of training and broken by another estimator"
        return self.share(count, total, self.limit, says)
