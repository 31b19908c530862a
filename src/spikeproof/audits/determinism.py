"""D13: the same image must get the same answer, now, later, and after another image (AutoAttack's check)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spikeproof.audits._evidence import Audit, Finding, Subject
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

    @torch.no_grad()
    def __call__(self, subject: Subject) -> Finding:
        worst, n = 0.0, 0
        for x, _, keys in subject.batches():
            first = subject.victim(x, exact, keys)
            for repeat in range(1, _REPEATS):
                if repeat % 2:  # what a state would remember
                    subject.victim((1 - x)[: max(len(x) // 2, 1)], exact, keys[: max(len(x) // 2, 1)])
                worst = max(worst, _difference(subject.victim(x, exact, keys), first))
            n += len(x)
        limit = subject.limits.logits_differ
        says = f"repeated forwards differ by up to {worst:.2g} of the logits' size"
        return self.found(not worst <= limit, says, value=worst, limit=limit, n=n)


def _difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-12))
