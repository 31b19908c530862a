"""D11: where nearby images give identical logits, a gradient can mean nothing (Pintor et al. 2022, I2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from spikeproof.evaluation.audits._evidence import Audit, AuditResult, Subject
from spikeproof.tensors import exact, fold, signs
from spikeproof.types import EventThreat, Threat
from spikeproof.victims.batch import Batch

__all__ = ["Flatness"]

_STEPS = (1e-4, 1e-3, 1 / 255, 4 / 255)


@dataclass(frozen=True)
class Flatness(Audit):
    """Share of images with identical logits after a random sign step of h; judged at one grey level, 1/255.

    Beside it, not judged (a spiking network is piecewise constant, the published limits are for smooth ones): the mean
    relative loss change within 4/255, and the cosine of the gradients at the image and at a random point of the ball.
    value: the share at 1/255.
    """

    code = "D11"
    title = "plateaus"
    means = "On a plateau no attack by gradients knows where to go, whatever its surrogate says."
    mend = "Attack with steps beyond the plateau: search over codes, Square, finite differences of a grey level."
    tier = "standard"

    limit: float = 0.5  # identical logits after a random step of a grey level

    def unfit_for(self, threat: Threat) -> str:
        return "whole events know no step of a grey level" if isinstance(threat, EventThreat) else ""

    def __call__(self, subject: Subject) -> AuditResult:
        found = [self._batch(subject, batch) for batch in subject.batches()]
        if not found:
            return self.share(0, 0, self.limit, "")
        flat, change, cosine = (torch.cat([part[i] for part in found], -1) for i in range(3))
        shares = {f"{h:.3g}": round(float(s), 4) for h, s in zip(_STEPS, flat.double().mean(1), strict=True)}
        detail = {"identical": shares, "loss_change": round(float(change.mean()), 4),
                  "alignment": round(float(cosine.mean()), 4)}  # fmt: skip
        says = "identical logits after a random step of one grey level"
        return self.share(int(flat[2].sum()), flat.shape[1], self.limit, says, **detail)

    @staticmethod
    @torch.no_grad()
    def _batch(subject: Subject, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """flat (steps,B), relative loss change (B,), cosine (B,)."""
        scene, f = subject.scene(batch, "flat")
        x0 = scene.start
        logits, loss = scene.logits(x0, exact, scene.keys), f(x0, exact, 0).loss
        flat, changes = [], []
        for h in _STEPS:
            there = (x0 + h * signs(fold(scene.keys, f"flat {h}"), x0.shape[1:]).to(x0)).clamp(0.0, 1.0)
            flat.append((scene.logits(there, exact, scene.keys) == logits).all(1))
        for draw in range(10):
            there = (x0 + _STEPS[-1] * signs(fold(scene.keys, f"near {draw}"), x0.shape[1:]).to(x0)).clamp(0.0, 1.0)
            changes.append(((f(there, exact, 0).loss - loss).abs() / loss.abs().clamp(min=1e-12)).clamp(max=1.0))
        far = subject.threat.sample(x0, fold(scene.keys, "aligned"))
        estimator = subject.case.estimator
        here, other = (estimator(f, point, estimator.init(point), 0)[1].flatten(1) for point in (x0, far))
        return torch.stack(flat), torch.stack(changes).mean(0), F.cosine_similarity(here, other)
