"""D16: a cross-entropy that is zero in float32 has no gradient (Carlini and Wagner 2017, on distillation)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spikeproof.evaluation.audits._evidence import Audit, AuditResult, Subject
from spikeproof.losses import cross_entropy
from spikeproof.tensors import exact
from spikeproof.types import Loss

__all__ = ["Saturation"]

_TEMPERATURES = (10.0, 100.0)
_SATURATED = 1e-6


def _cooled(temperature: float) -> Loss:
    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits / temperature, labels)

    return loss


@dataclass(frozen=True)
class Saturation(Audit):
    """The plain attack, and again with the logits divided by 10 and by 100: images that only the latter break.

    Only images whose cross-entropy is saturated when clean count (below 1e-6: the true class has all of the
    probability that float32 can tell from 1); on the others another temperature is merely another loss. value: their
    share of all images looked at.
    """

    code = "D16"
    title = "saturated loss"
    means = "The logits are so large that the cross-entropy has no gradient: the attack did nothing."
    mend = "Attack the margin or DLR, which do not saturate."
    tier = "smoke"

    limit: float = 0.005  # with a saturated loss, and broken only with the logits divided by 10 or 100

    def __call__(self, subject: Subject) -> AuditResult:
        with torch.no_grad():
            losses = [cross_entropy(subject.victim(x, exact, keys), y) for x, y, keys in subject.batches()]
        saturated = (torch.cat(losses) < _SATURATED).tolist() if losses else []
        n, gained, limit = len(saturated), 0, self.limit
        if any(saturated):
            plain, *cooled = (self._fooled(subject, loss) for loss in (cross_entropy, *map(_cooled, _TEMPERATURES)))
            gained = sum(s and any(c) and not p for s, p, *c in zip(saturated, plain, *cooled, strict=True))
        says = "with a saturated loss, and broken only with the logits divided by 10 or 100"
        return self.share(gained, n, limit, says, saturated=sum(saturated))

    @staticmethod
    def _fooled(subject: Subject, loss: Loss) -> list[bool]:
        rows = subject.attacked("saturation", replace(subject.case, loss=loss), subject.threat)
        return [row["fooled"] for row in rows]
