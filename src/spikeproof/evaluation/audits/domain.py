"""D17: what the network saw under attack must be the code of an image that exists."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spikeproof import parts
from spikeproof.evaluation.audits._evidence import Audit, AuditResult, Subject
from spikeproof.evaluation.judge import proposal
from spikeproof.tensors import exact
from spikeproof.victims.batch import Batch

__all__ = ["Domain"]


@dataclass(frozen=True)
class Domain(Audit):
    """What PGD proposes, encoded afresh by the deployed encoder: is it what the network saw? value: share where not.

    Beside it: of the images that PGD breaks, the share that is broken still when every pixel is rounded, towards the
    clean one, to one of 256 levels.
    """

    code = "D17"
    title = "domain"
    means = "The network was attacked with something that no image can be."
    mend = "Attack what a sensor gives, through the deployed encoder; project into its domain."
    breaks = "not evaluated"
    tier = "smoke"

    limit: float = 0.0  # images whose code is not that of the picture that would be saved

    def __call__(self, subject: Subject) -> AuditResult:
        if not parts.surface(subject.threat.surface).before_encoder:
            return self.absent("the threat is behind the encoder")
        other = n = broken = kept = 0
        for batch in subject.batches():
            o, b, k = self._batch(subject, batch)
            other, broken, kept, n = other + o, broken + b, kept + k, n + len(batch)
        says = "proposed images whose code is not what the network saw"
        return self.share(other, n, self.limit, says, broken=broken, broken_on_the_grid=kept)

    @staticmethod
    @torch.no_grad()
    def _batch(subject: Subject, batch: Batch) -> tuple[int, int, int]:
        # To the end: the first point that is fooled lies so near the boundary that rounding alone may take it back.
        case = replace(subject.case, survivors=False)
        scene, point = proposal(subject.victim, batch, "domain", case, subject.threat)
        seen = scene.victim.encode(point, scene.keys)
        saved = subject.victim.encode(point.clamp(0.0, 1.0), scene.keys)
        other = (seen != saved).transpose(0, 1).flatten(1).any(1)
        broken = scene.logits(point, exact, scene.keys).argmax(1) != batch.y
        on_grid = scene.logits(_rounded(point, batch.x), exact, scene.keys).argmax(1) != batch.y
        return int(other.sum()), int(broken.sum()), int((broken & on_grid).sum())


def _rounded(point: Tensor, clean: Tensor) -> Tensor:
    """The nearest of 256 levels that is not farther from the clean pixel."""
    levels = 255.0 * point
    towards = torch.where(point >= clean, torch.floor(levels), torch.ceil(levels)) / 255.0
    nearest = torch.round(levels) / 255.0
    return torch.where((nearest - clean).abs() <= (point - clean).abs(), nearest, towards).clamp(0.0, 1.0)
