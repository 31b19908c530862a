"""D13: the same image must get the same answer, now, later, and after another image (AutoAttack's check)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from spikeproof.evaluation.audits._evidence import Audit, AuditResult, Subject, difference, worse
from spikeproof.tensors import exact

__all__ = ["Determinism"]

_REPEATS = 5


@dataclass(frozen=True)
class Determinism(Audit):
    """Five forwards of the same images with the same keys, another batch and a smaller one in between.

    Keys are all the randomness that a victim may have: a Poisson code drawn from its keys is deterministic here, and
    gets EOT and fresh draws in the verdict. value: the largest difference of logits, relative to their size.
    """

    code = "D13"
    title = "determinism"
    means = "A network that answers differently each time, or remembers what it saw, cannot be attacked step by step."
    mend = "Reset all state before every call; draw noise from the keys, and attack it with the estimator eot."
    breaks = "not evaluated"
    tier = "smoke"
    asks_gradient = False
    preflight = True

    limit: float = 1e-4  # relative difference of two forwards of one input

    @torch.no_grad()
    def __call__(self, subject: Subject) -> AuditResult:
        worst, n, limit = 0.0, 0, self.limit
        for x, _, keys in subject.batches():
            n += len(x)
            try:
                first = subject.victim(x, exact, keys)
                for repeat in range(1, _REPEATS):
                    if repeat % 2:  # what a state would remember
                        subject.victim((1 - x)[: max(len(x) // 2, 1)], exact, keys[: max(len(x) // 2, 1)])
                    worst = worse(worst, difference(subject.victim(x, exact, keys), first))
            except RuntimeError as error:  # a state of each image does not fit a batch of another size
                says = f"a forward fails after a batch of another size: {error}"
                return self.found(True, says, value=None, limit=limit, n=n)
        says = f"repeated forwards differ by up to {worst:.2g} of the logits' size"
        return self.found(not worst <= limit, says, value=worst, limit=limit, n=n)
