"""D15: did the attack lose what it had found, or stop too early? (Pintor et al. 2022, I3 to I5)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikeproof.evaluation.audits._evidence import Audit, AuditResult, Subject
from spikeproof.evaluation.plain import plain_attack
from spikeproof.types import Objective, Rule, Score
from spikeproof.victims.batch import Batch

__all__ = ["Optimiser"]


_LEAST = 20


class _Recorded:
    """An objective that keeps what it said; all else is the inner one's."""

    def __init__(self, inner: Objective) -> None:
        self._inner = inner
        self.fooled: list[Tensor] = []
        self.losses: list[Tensor] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __call__(self, point: Tensor, rule: Rule, salt: int) -> Score:
        score = self._inner(point, rule, salt)
        self.fooled.append(score.fooled)
        self.losses.append(score.loss.detach())
        return score


@dataclass(frozen=True)
class Optimiser(Audit):
    """PGD, watched: images that were adversarial on the way and not in the verdict; surviving images whose best loss
    rose by more than 5 % of its range in the last quarter of the steps. value: the share of the former.

    The steps add up to 2.5 eps, and from a random start the far side of the ball is up to 2 eps away: in the last half
    even a linear network's loss still rises.
    """

    code = "D15"
    title = "optimiser"
    means = "A success was lost on the way, fooled the attack's network and not the deployed one, or was still to come."
    mend = "Keep the best point met; attack the deployed forward; more steps."
    tier = "quick"

    limit: float = 0.0  # adversarial on the way, not in the verdict
    unfinished: float = 0.5  # surviving images whose best loss still rose in the last quarter of the steps

    def __call__(self, subject: Subject) -> AuditResult:
        found = [self._batch(subject, batch) for batch in subject.batches()]
        n = sum(len(batch) for batch in subject.batches())
        lost, unfinished, left = (sum(part[i] for part in found) for i in range(3))
        says = f"{lost} of {n} successes lost; {unfinished} of {left} survivors still rising"
        early = left > 0 and self.share(unfinished, left, self.unfinished, "").colour == "red"
        value = lost / max(n, 1)
        return self.found(lost > 0 or early, says, value=value, limit=self.limit, n=n, unfinished=unfinished)

    @staticmethod
    def _batch(subject: Subject, batch: Batch) -> tuple[int, int, int]:
        scene, f = subject.scene(batch, "optimiser")
        watched: Any = _Recorded(f)
        attack = plain_attack(subject.threat, max(subject.effort.steps, _LEAST))  # fewer cannot have converged
        point = attack(watched, scene.start, subject.threat, subject.case.estimator, scene.keys).detach()
        survives = scene.judge(point, "optimiser").predicted == scene.y
        on_the_way = torch.stack(watched.fooled).any(0)
        best = torch.stack(watched.losses).cummax(0).values
        late = best[3 * len(best) // 4]
        rising = (best[-1] - late) > 0.05 * (best[-1] - best[0]).clamp(min=1e-12)
        return int((on_the_way & survives).sum()), int((survives & rising).sum()), int(survives.sum())
