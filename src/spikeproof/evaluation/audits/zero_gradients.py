"""D6: how much of the image does the gradient not see? (AutoAttack's zero-gradient alarm; Pintor et al. 2022, I1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikeproof.evaluation.audits._evidence import Audit, AuditResult, Subject
from spikeproof.evaluation.audits._touch import FALSE_ZERO, rise, some_of
from spikeproof.evaluation.plain import coordinates
from spikeproof.types import Carry, Objective, Score
from spikeproof.victims.batch import Batch

__all__ = ["ZeroGradients"]

_NOTHING = (torch.zeros(0),) * 4


class _Watched:
    """An estimator that remembers which coordinates ever had a gradient."""

    def __init__(self, inner: Any) -> None:
        self._inner, self.seen = inner, torch.zeros(())

    def init(self, x: Tensor) -> Carry:
        return self._inner.init(x)

    def of(self, carry: Carry, index: Tensor) -> Carry:
        return self._inner.of(carry, index)

    def __call__(self, f: Objective, x: Tensor, carry: Carry, salt: int) -> tuple[Score, Tensor, Carry]:
        score, gradient, carry = self._inner(f, x, carry, salt)
        self.seen = self.seen.to(x) + (gradient != 0)
        return score, gradient, carry


@dataclass(frozen=True)
class ZeroGradients(Audit):
    """Images whose gradient is zero everywhere; the share of zero pixels; pixels with a gradient at some step of PGD.

    Unseen pixels alone are no fault, if the network does not see them either: they count where random corners on them
    raise the loss as those on others do. value: share of images without a gradient.
    """

    code = "D6"
    title = "zero gradients"
    means = "No step along a gradient moves what has none; an image without any gradient was never attacked."
    mend = "Wider surrogates, tie-spread pooling, random signs at zero coordinates, margin or DLR loss."
    tier = "smoke"

    limit: float = 0.0  # images whose gradient is zero everywhere
    covered: float = 0.9  # at least so many pixels with a gradient at least once along an attack
    false_zero: float = FALSE_ZERO

    def __call__(self, subject: Subject) -> AuditResult:
        found = [self._batch(subject, batch) for batch in subject.batches()]
        zero, cover, unseen, others = (torch.cat(part) for part in zip(*found, strict=True)) if found else _NOTHING
        n = len(zero)
        blind, mean = int((zero == 1).sum()), float(zero.mean()) if n else 0.0
        seen = float(cover.mean()) if n else 1.0
        they = coordinates(subject.threat)
        says = f"{blind} of {n} images without a gradient; {100 * mean:.1f} % of {they} zero; {100 * seen:.0f} % of "
        says += f"{they} seen along an attack"
        told = zero < 1
        matter = float(unseen[told].sum()) > self.false_zero * float(others[told].sum())
        red = blind > self.limit * n or (seen < self.covered and matter)
        detail = {"zero_share": round(mean, 4), "covered": round(seen, 4)}
        return self.found(red, says, value=blind / max(n, 1), limit=self.limit, n=n, **detail)

    @staticmethod
    def _batch(subject: Subject, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Per image (B,): the share of zeros, the share of pixels that had a gradient at one step or more, and the
        loss that random corners on unseen pixels, and on as many others, can cause."""
        zero = (subject.gradient(batch, "zero").flatten(1) == 0).double().mean(1)
        watched = _Watched(subject.case.estimator)
        scene, f = subject.scene(batch, "cover")
        subject.case.attack(f, scene.start, subject.threat, watched, scene.keys)
        seen = (watched.seen > 0).flatten(1)
        others = some_of(seen, (~seen).sum(1), scene.keys)
        unseen = some_of(~seen, others.sum(1), scene.keys)
        draws = subject.effort.draws
        with torch.no_grad():
            hidden, plain = (rise(f, scene.start, subject.threat, side, scene.keys, draws) for side in (unseen, others))
        return zero, seen.double().mean(1), hidden.double(), plain.double()
