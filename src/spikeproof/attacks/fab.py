"""FAB and FAB-T: the nearest misclassified point, found by stepping onto linearised class boundaries (AutoAttack)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, product
from typing import ClassVar

import torch
from torch import Tensor

from spikeproof.attacks._best import Best, Part
from spikeproof.attacks._hyperplane import dual_norm, onto
from spikeproof.attacks._options import at_least_one, check_targets, ranks
from spikeproof.errors import UsageError
from spikeproof.tensors import exact, fold, per_image
from spikeproof.types import Carry, Estimator, Objective, Score, Threat

__all__ = ["FAB"]


@dataclass(frozen=True)
class FAB:
    """Croce and Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack" (ICML 2020).

    From x: d and d0 are the shortest ways of x and of the clean x0 onto the plane where the linearised z_t - z_y is 0;
    x <- (1 - a) (x + overshoot d) + a (x0 + overshoot d0), a = min(|d| / (|d| + |d0|), alpha_max); where that is
    misclassified, x goes back to x0 + backward (x - x0). An image whose gradients are all zero stays where it is (as
    usually written it drifts back to x0). L-inf, L2 and L1; the evaluation's loss plays no part.

    targets: 0 takes the nearest of all class boundaries in each step, n runs towards each of the n likeliest wrong
    classes by the clean logits (FAB-T; AutoAttack: 9). restarts after the first start half-way to a random point of
    the ball. Returns the nearest misclassified point within eps; where there is none, of the points met within eps the
    one closest to misclassification. Costs a gradient for each boundary looked at, and a forward, a step. Where a
    success is final, an image that one run has misclassified within eps takes no part in the next.
    """

    asks_gradient: ClassVar[bool] = True
    steps: int = 100
    targets: int = 0
    restarts: int = 1
    alpha_max: float = 0.1
    overshoot: float = 1.05
    backward: float = 0.9

    def __post_init__(self) -> None:
        at_least_one(steps=self.steps, restarts=self.restarts)
        check_targets(self.targets)
        shares = (self.alpha_max, self.backward)
        if not all(0 <= share <= 1 for share in shares) or self.overshoot < 1:
            raise UsageError("alpha_max and backward in [0,1], overshoot >= 1", (*shares, self.overshoot))

    @property
    def label(self) -> str:
        return f"fab-{'t-' if self.targets else ''}{self.steps}"

    @torch.no_grad()
    def __call__(
        self,
        f: Objective,
        x0: Tensor,
        threat: Threat,
        estimator: Estimator,
        keys: Tensor,
        *,
        start: Tensor | None = None,
    ) -> Tensor:
        if threat.norm not in ("Linf", "L2", "L1"):
            raise UsageError("a threat of FAB", threat.norm, valid=["Linf", "L2", "L1"])
        boundaries = [f.difference(rank) for rank in ranks(f, self.targets or f.classes)]
        aims = [[boundary] for boundary in boundaries] if self.targets else [boundaries]
        best = Best(x0)
        for run, (aim, restart) in enumerate(product(aims, range(self.restarts))):
            part = best.standing(f, x0)
            if not len(part.at):
                break
            here = [boundary.of(part.at) for boundary in aim] if len(part.at) < len(x0) else aim
            x = part.x0
            if restart:
                x = x + (threat.sample(x, fold(keys, f"fab {run}")[part.at]) - x) / 2.0
            elif start is not None:
                x = threat.project(start[part.at], x)
            salts = count(run * (2 * self.steps + 1))
            self._run(here, x, threat, estimator, _Nearest(best, part, threat), salts)
        return best.x

    def _run(
        self,
        boundaries: list[Objective],
        x: Tensor,
        threat: Threat,
        estimator: Estimator,
        found: _Nearest,
        salts: Iterator[int],
    ) -> None:
        """One run from x (n,*); every point met is offered to `found`."""
        x0 = found.x0
        carries = [estimator.init(x) for _ in boundaries]  # one each: a memory belongs to one objective
        for _ in range(self.steps):
            gap, w, carries = _nearest_boundary(boundaries, x, threat.norm, estimator, carries, found, next(salts))
            x = self._step(x, x0, gap, w, threat)
            score = boundaries[0](x, exact, next(salts))
            found.offer(x, score)
            x = torch.where(per_image(x, score.fooled), x0 + self.backward * (x - x0), x)
        last = threat.project(x, x0)
        found.offer(last, boundaries[0](last, exact, next(salts)), inside=True)

    def _step(self, x: Tensor, x0: Tensor, gap: Tensor, w: Tensor, threat: Threat) -> Tensor:
        """From x (B,*) over the plane gap + w . (. - x) = 0, drawn towards the point of it that is nearest to x0."""
        ahead = onto(x, w, -gap, threat.norm)
        gap0 = gap.double() - (w.double() * (x.double() - x0.double())).flatten(1).sum(1)
        ahead0 = onto(x0, w, -gap0, threat.norm)
        far, far0 = (threat.distance(way, torch.zeros_like(way)) for way in (ahead, ahead0))
        drawn = per_image(x, (far / (far + far0).clamp(min=1e-12)).clamp(max=self.alpha_max))
        new = (1.0 - drawn) * (x + self.overshoot * ahead) + drawn * (x0 + self.overshoot * ahead0)
        live = per_image(x, w.flatten(1).any(1))
        return torch.where(live, new.clamp(0.0, 1.0), x)


def _nearest_boundary(
    boundaries: list[Objective],
    x: Tensor,
    norm: str,
    estimator: Estimator,
    carries: list[Carry],
    found: _Nearest,
    salt: int,
) -> tuple[Tensor, Tensor, list[Carry]]:
    """z_t - z_y (B,) and its gradient (B,*) for each image's nearest linearised boundary; the estimators' memories."""
    gap, w = x.new_zeros(len(x)), torch.zeros_like(x)
    nearest, kept = torch.full((len(x),), float("inf"), dtype=torch.float64, device=x.device), []
    for boundary, carry in zip(boundaries, carries, strict=True):
        # One salt for all: the classes are compared under the same noise.
        score, gradient, carry = estimator(boundary, x, carry, salt)
        kept.append(carry)
        found.offer(x, score)
        steepness = dual_norm(gradient, norm)
        distance = score.loss.double().abs() / steepness  # infinite where the gradient is zero
        nearer = (steepness > 0) & (distance < nearest)
        nearest = torch.where(nearer, distance, nearest)
        gap = torch.where(nearer, score.loss, gap)
        w = torch.where(per_image(x, nearer), gradient, w)
    return gap, w, kept


class _Nearest:
    """Of the points within eps: fooled before not fooled; of the fooled the nearest, of the others the highest loss."""

    def __init__(self, best: Best, part: Part, threat: Threat) -> None:
        self.x0, self._best, self._at, self._threat = part.x0, best, part.at, threat

    def offer(self, x: Tensor, score: Score, *, inside: bool = False) -> None:
        """Take x (B,*) where it is better than what is held; `inside`: it is a projection, whatever rounding says."""
        distance = self._threat.distance(x, self.x0)
        within = (distance <= self._threat.eps) | inside
        fooled = score.fooled & within
        worth = torch.where(fooled, -distance, score.loss)
        self._best.offer(x, Score(torch.where(within, worth, float("-inf")), fooled), self._at)
