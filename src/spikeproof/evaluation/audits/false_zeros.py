"""D6d: do the pixels whose gradient is zero matter after all? The test of a sparse gradient (our own)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from spikeproof.evaluation.audits._evidence import Audit, AuditResult, Subject
from spikeproof.evaluation.audits._touch import FALSE_ZERO, rise, some_of
from spikeproof.evaluation.plain import coordinates
from spikeproof.victims.batch import Batch

__all__ = ["FalseZeros"]


@dataclass(frozen=True)
class FalseZeros(Audit):
    """Random corners on the zero pixels only, and on as many others: mean over images of the largest loss rise.

    Only images with more zeros than the limit count; pixels that are dead in the code cause no rise.
    value: the rise on zero pixels, as a share of that on the others.
    """

    code = "D6d"
    title = "false zeros"
    means = "Zeros that change the loss when touched are the attacker's blindness, not the network's robustness."
    mend = "A wider surrogate, tie-spread pooling, an attack that explores zero coordinates."
    tier = "quick"

    limit: float = FALSE_ZERO
    zeros: float = 0.05  # zero pixels in the gradient of an image, above which they must be explained

    def __call__(self, subject: Subject) -> AuditResult:
        found = [pair for batch in subject.batches() for pair in self._batch(subject, batch)]
        n = len(found)
        if not n:
            seen = sum(len(batch) for batch in subject.batches())
            says = f"no image of {seen} has more than {100 * self.zeros:.0f} % zeros and others to compare with"
            return self.found(False, says, value=0.0, limit=self.limit, n=seen)
        on_zeros, on_others = (max(sum(side) / n, 0.0) for side in zip(*found, strict=True))
        ratio = on_zeros / on_others if on_others > 0 else float(on_zeros > 0)
        they = coordinates(subject.threat)
        says = f"touching zero {they} raises the loss by {on_zeros:.3g}, as many others by {on_others:.3g}"
        return self.found(ratio > self.limit, says, value=ratio, limit=self.limit, n=n)

    @torch.no_grad()
    def _batch(self, subject: Subject, batch: Batch) -> list[tuple[float, float]]:
        """(rise on zeros, rise on others) of each image that has zeros enough."""
        scene, f = subject.scene(batch, "false zeros")
        zero = (subject.gradient(batch, "false zeros") == 0).flatten(1)
        enough = zero.double().mean(1) > self.zeros
        others = some_of(~zero, zero.sum(1), scene.keys)
        zeros = some_of(zero, others.sum(1), scene.keys)  # where fewer others than zeros: as many as there are
        draws = subject.effort.draws
        sides = [rise(f, scene.start, subject.threat, side, scene.keys, draws) for side in (zeros, others)]
        # A gradient that is zero everywhere leaves nothing to compare with; D6 counts those.
        told = enough & (others.sum(1) > 0)
        return [(float(a), float(b)) for a, b, t in zip(*sides, told, strict=True) if t]
