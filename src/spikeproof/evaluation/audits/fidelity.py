"""D12: does the estimated gradient foresee what finite steps do? (our own)"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from spikeproof.evaluation.audits._evidence import Audit, AuditResult, Subject
from spikeproof.tensors import exact, fold, signs
from spikeproof.types import EventThreat, Threat
from spikeproof.victims.batch import Batch

__all__ = ["Fidelity"]

_GREY_LEVEL = 1 / 255


@dataclass(frozen=True)
class Fidelity(Audit):
    """Per image the correlation, over random directions r, of loss(x + h r) - loss(x - h r) with g r.

    h is half of the budget, the scale at which attacks work, and moves every pixel by one grey level at least: below
    it a coded image does not change.

    value: the median over n images. For an estimator that knows nothing each correlation has a standard deviation of
    1 / sqrt(directions), and their median one of 1.25 / sqrt(directions n).
    """

    code = "D12"
    title = "estimator against finite steps"
    means = "The estimator's gradient does not foresee what the network does."
    mend = "Try other surrogates and slopes; rely on attacks without gradients."
    tier = "standard"

    limit: float = 3.0  # at least so many standard errors above 0: correlation of gradient and finite steps

    def unfit_for(self, threat: Threat) -> str:
        return "finite steps of whole events have no opposite" if isinstance(threat, EventThreat) else ""

    def __call__(self, subject: Subject) -> AuditResult:
        directions = 2 * subject.effort.draws
        found = [self._batch(subject, b, directions) for b in subject.batches(min(subject.effort.images, 16))]
        if not found:
            return self.share(0, 0, 0.0, "")
        values = torch.cat(found)
        limit = self.limit * 1.25 / sqrt(directions * len(values))
        median = float(values.median())
        says = f"median correlation {median:.2f} over {directions} directions"
        return self.found(median < limit, says, value=median, limit=limit, n=len(values))

    @staticmethod
    @torch.no_grad()
    def _batch(subject: Subject, batch: Batch, directions: int) -> Tensor:
        """Correlation of each image (B,); 0 where one side does not vary."""
        scene, f = subject.scene(batch, "fidelity")
        x0, h = scene.start, subject.threat.eps / 2
        gradient = subject.gradient(batch, "fidelity").flatten(1).double()
        measured, foreseen = [], []
        for draw in range(directions):
            r = signs(fold(scene.keys, f"direction {draw}"), x0.shape[1:]).to(x0)
            step = (h * subject.threat.ascend(r)).abs().clamp(min=_GREY_LEVEL) * r
            up, down = ((x0 + s * step).clamp(0.0, 1.0) for s in (1, -1))
            measured.append((f(up, exact, 0).loss - f(down, exact, 0).loss).double())
            foreseen.append((gradient * (up - down).flatten(1).double()).sum(1))
        a, b = (torch.stack(v) - torch.stack(v).mean(0) for v in (measured, foreseen))
        norm = a.norm(dim=0) * b.norm(dim=0)
        return torch.where(norm > 0, (a * b).sum(0) / norm.clamp(min=1e-300), 0.0)
