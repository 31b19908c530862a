"""D6: how much of the image does the gradient not see? (AutoAttack's zero-gradient alarm; Pintor et al. 2022, I1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikeproof.audits._evidence import Audit, Batch, Finding, Subject
from spikeproof.types import Carry, Objective, Score

__all__ = ["ZeroGradients"]


class _Watched:
    """An estimator that remembers which coordinates ever had a gradient."""

    def __init__(self, inner: Any) -> None:
        self._inner, self.seen = inner, torch.zeros(())

    def init(self, x: Tensor) -> Carry:
        return self._inner.init(x)

    def __call__(self, f: Objective, x: Tensor, carry: Carry, salt: int) -> tuple[Score, Tensor, Carry]:
        score, gradient, carry = self._inner(f, x, carry, salt)
        self.seen = self.seen.to(x) + (gradient != 0)
        return score, gradient, carry


@dataclass(frozen=True)
class ZeroGradients(Audit):
    """Images whose gradient is zero everywhere; the share of zero pixels; pixels with a gradient at some step of PGD.

    Zero pixels alone are no fault: `false_zeros` tells whether they matter. value: share of images without a gradient.
    """

    code = "D6"
    title = "zero gradients"
    means = "A sign step cannot move a pixel whose gradient is zero; an image without a gradient was never attacked."
    mend = "Wider surrogates, tie-spread pooling, random signs at zero coordinates, margin or DLR loss."

    def __call__(self, subject: Subject) -> Finding:
        shares, covered = [], []
        for batch in subject.batches():
            gradient = subject.gradient(batch, "zero").flatten(1)
            shares.append((gradient == 0).double().mean(1))
            covered.append(self._covered(subject, batch))
        zero, cover = (torch.cat(v) if v else torch.zeros(0) for v in (shares, covered))
        n, limits = len(zero), subject.limits
        blind, mean = int((zero == 1).sum()), float(zero.mean()) if n else 0.0
        seen = float(cover.mean()) if n else 1.0
        says = f"{blind} of {n} images without a gradient; {100 * mean:.1f} % of pixels zero; {100 * seen:.0f} % of "
        says += "pixels seen along an attack"
        red = blind > limits.no_gradient * n or seen < limits.covered
        detail = {"zero_share": round(mean, 4), "covered": round(seen, 4)}
        return self.found(red, says, value=blind / max(n, 1), limit=limits.no_gradient, n=n, **detail)

    @staticmethod
    def _covered(subject: Subject, batch: Batch) -> Tensor:
        """Share of each image's pixels that had a gradient at one step or more, (B,)."""
        watched = _Watched(subject.case.estimator)
        scene, f = subject.scene(batch, "cover")
        subject.case.attack(f, scene.start, subject.threat, watched, scene.keys)
        return (watched.seen > 0).flatten(1).double().mean(1)
