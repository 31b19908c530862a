"""D5: the loss must rise along the gradient, and more than along random directions (Athalye et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from spikeproof.evaluation.audits._evidence import Audit, AuditResult, Subject
from spikeproof.evaluation.plain import furthest
from spikeproof.tensors import exact, fold, normal
from spikeproof.victims.batch import Batch

__all__ = ["AlongGradient"]

_LENGTHS = (0.125, 0.25, 0.5, 1.0)
_RANDOM = 10


@dataclass(frozen=True)
class AlongGradient(Audit):
    """Steps of eps/8 .. eps along the gradient: where does the loss rise? At eps, is it above that of random corners?

    Above the median of 10, not above their best: the best of 10 beats one step along the gradient for a third to a half
    of the images of undefended spiking networks, whose loss is rough, and which PGD breaks nevertheless.
    value: the share of images whose loss rises, at the best length.
    """

    code = "D5"
    title = "loss along the gradient"
    means = "A gradient that does not point uphill is no gradient of this network."
    mend = "Another surrogate, another slope through the encoder; publish the worst case over them."
    tier = "smoke"

    limit: float = 0.9  # at least so many losses rise along the gradient, at the best step length
    beaten: float = 0.25  # images where the median of 10 random directions beats the gradient's

    def __call__(self, subject: Subject) -> AuditResult:
        found = [self._batch(subject, batch) for batch in subject.batches()]
        n = sum(len(batch) for batch in subject.batches())
        rises = torch.stack([rise.sum(1) for rise, _ in found]).sum(0) / n if n else torch.ones(len(_LENGTHS))
        beaten = sum(int(b.sum()) for _, b in found)
        up = float(rises.max())
        lost = self.share(beaten, n, self.beaten, "").colour == "red"
        says = f"the loss rises for {100 * up:.0f} % of images; the median of {_RANDOM} random directions beats the "
        says += f"gradient's for {beaten} of {n}"
        curve = {str(length): round(float(r), 4) for length, r in zip(_LENGTHS, rises, strict=True)}
        weak = self.share(round((1 - up) * n), n, 1 - self.limit, "").colour == "red"
        return self.found(weak or lost, says, value=up, limit=self.limit, n=n, rises=curve, beaten=beaten)

    @staticmethod
    @torch.no_grad()
    def _batch(subject: Subject, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """rises (lengths,B) and beaten (B,), both bool."""
        scene, f = subject.scene(batch, "along")
        x0, threat = scene.start, subject.threat
        gradient = subject.gradient(batch, "along")
        before = f(x0, exact, 1).loss
        after = [f(furthest(threat, gradient, x0, k), exact, 1).loss for k in _LENGTHS]
        chance = []
        for draw in range(_RANDOM):
            way = normal(fold(scene.keys, f"direction {draw}"), x0.shape[1:]).to(x0)
            chance.append(f(furthest(threat, way, x0), exact, 1).loss)
        return torch.stack([loss > before for loss in after]), torch.stack(chance).median(0).values >= after[-1]
