"""A universal patch: one pattern of events under a mask, learned on training recordings and judged on others.

After AE-Patch ("Adversarial event patch for spiking neural networks", Knowledge-Based Systems 2024). Departures: a step
turns whole cells, fewer in every round, instead of adding to them and clipping; a zero gradient turns none and ends
nothing; the loss that counts is asked of the new pattern; the best pattern met on the training recordings is kept.

It is no part of a tier: a stage attacks each recording on its own, and must never see another one's.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluation.judge import Case, attack_rows
from spikeproof.losses import margin
from spikeproof.rows import AttackRow
from spikeproof.tensors import exact, fold, image_keys, per_image, uniform
from spikeproof.types import Estimator, Loss, Objective, Rule, Threat
from spikeproof.victims.batch import Batch
from spikeproof.victims.frozen import freeze
from spikeproof.victims.scene import Scene
from spikeproof.victims.victim import Victim, borrowed

__all__ = ["Patch", "learn_patch", "patch_rows", "random_patch"]


@dataclass(frozen=True, eq=False)  # tensors have no single truth value
class Patch:
    """The threat of which one point alone is admissible: the recording with the pattern (T,2,H,W), of ones and zeros,
    under the mask (T,2,H,W) bool. eps: the cells of the mask; a distance is how many of them differ from the recording.

    learned_on: digests of the recordings that it was learned on, which it may not be judged on.
    """

    mask: Tensor
    pattern: Tensor
    learned_on: frozenset[str] = field(default_factory=frozenset)
    surface: str = "events"

    norm: ClassVar[str] = "patch"

    def __post_init__(self) -> None:
        if not bool(((self.pattern == 0) | (self.pattern == 1)).all()):
            raise UsageError("a pattern of ones and zeros", f"{float(self.pattern.max()):.6g}")

    @property
    def eps(self) -> float:
        return float(self.mask.sum())

    def project(self, x: Tensor, x0: Tensor) -> Tensor:
        """The recordings x0 (B,T,2,H,W) with the patch, whatever x is."""
        return torch.where(self.mask, self.pattern.to(x0), x0)

    def ascend(self, gradient: Tensor) -> Tensor:
        return torch.zeros_like(gradient)

    def distance(self, x: Tensor, x0: Tensor) -> Tensor:
        """(B,), infinite where x is anything else than the recording with the patch."""
        other = (x != self.project(x, x0)).flatten(1).any(1)
        return (x != x0).flatten(1).sum(1).to(x0).masked_fill(other, float("inf"))

    def sample(self, x0: Tensor, keys: Tensor) -> Tensor:
        return self.project(x0, x0)

    def scaled(self, share: float) -> Patch:
        return self


def learn_patch(
    victim: Victim,
    training: Batch,
    mask: Tensor,
    rule: Rule,
    *,
    steps: int = 20,
    loss: Loss = margin,
    batch_size: int = 64,
    seed: int = 0,
) -> Patch:
    """The pattern that does most to the training recordings (N,T,2,H,W), under a mask (H,W), (2,H,W) or (T,2,H,W) bool.

    It begins empty. Round k turns the 1/k of the cells that the mean gradient, averaged over the rounds, wants turned,
    the largest first. Of all patterns met the one is kept that fools most, and of equal ones that of the larger mean
    loss. Costs a gradient a round, and a forward more. Raises UsageError for a mask that does not fit.
    """
    if steps < 1 or not len(training):
        raise UsageError("steps >= 1 and a training recording or more", f"{steps}, {len(training)}")
    twin, where = freeze(borrowed(victim)), _mask(mask, training.x)
    empty = torch.zeros_like(training.x[0])
    patch = best = Patch(where, empty, frozenset(_digests(training.x)))
    held, slope = (-1, -math.inf), torch.zeros_like(empty)
    for k in range(1, steps + 1):
        reached, gradient = _looked_at(twin, training, patch, WhiteBox(rule), loss, batch_size, seed + k)
        best, held = (patch, reached) if reached > held else (best, held)
        slope = 0.75 * slope + gradient / gradient.abs().mean().clamp(min=torch.finfo(gradient.dtype).tiny)
        patch = replace(patch, pattern=_turned(patch, slope, k))
    reached, _ = _looked_at(twin, training, patch, None, loss, batch_size, seed)
    return patch if reached > held else best


def random_patch(like: Patch, seed: int = 0) -> Patch:
    """The control: a pattern of as many events, at random places of the same mask."""
    key = fold(image_keys(seed, torch.zeros(1, dtype=torch.int64)), "patch")
    drawn = uniform(key, like.mask.shape)[0].to(like.pattern).masked_fill(~like.mask, -1.0).flatten()
    order = drawn.sort(descending=True, stable=True).indices[: int((like.pattern * like.mask).sum())]
    pattern = torch.zeros_like(drawn).scatter(0, order, 1.0).view_as(like.pattern)
    return Patch(like.mask, pattern)


def patch_rows(victim: Victim, test: Batch, patch: Patch, rule: Rule, *, evaluation: str = "patch") -> list[AttackRow]:
    """What the deployed network says of recordings with the patch: one row each, by the judge, as of any attack.

    Raises SpikeproofError where the patch was learned on one of them, or they are no grids of its size.
    """
    if test.x.shape[1:] != patch.mask.shape:
        raise SpikeproofError(f"recordings of shape {tuple(patch.mask.shape)}, as the patch", tuple(test.x.shape[1:]))
    known = patch.learned_on.intersection(_digests(test.x))
    if known:
        mend = "learn on the training split, judge on the test split"
        raise SpikeproofError("recordings that the patch was not learned on", f"{len(known)} that it was", mend=mend)
    case = Case(_Put(), WhiteBox(rule), margin)
    return attack_rows(victim, test, evaluation=evaluation, threats={str(int(patch.eps)): patch}, cases={"patch": case})


class _Put:
    """The attack of a pattern that is known: it asks nothing."""

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
        return threat.project(x0, x0)


def _mask(mask: Tensor, x: Tensor) -> Tensor:
    """The mask for each cell of recordings (N,T,2,H,W), as (T,2,H,W)."""
    fits = mask.dtype == torch.bool and 2 <= mask.dim() <= 4 and mask.shape == x.shape[x.dim() - mask.dim() :]
    if not fits or x.dim() != 5 or not bool(mask.any()):
        expected = f"a mask of bool, not empty, of the last axes of recordings of shape {tuple(x.shape[1:])}"
        raise UsageError(expected, f"{mask.dtype}, shape {tuple(mask.shape)}", mend="for example (H,W)")
    return mask.expand(x.shape[1:]).clone()


def _looked_at(
    twin: Victim, training: Batch, patch: Patch, estimator: WhiteBox | None, loss: Loss, batch_size: int, salt: int
) -> tuple[tuple[int, float], Tensor]:
    """How many recordings the patch fools and its mean loss; and the mean gradient there, 0 without an estimator."""
    fooled, total, slope = 0, 0.0, torch.zeros_like(patch.pattern)
    for part in training.split(batch_size):
        f, x = Scene(twin, part.x, part.y, part.keys, patch.surface).objective(loss), patch.project(part.x, part.x)
        if estimator is None:
            with torch.no_grad():
                score = f(x, exact, salt)
        else:
            score, gradient, _ = estimator(f, x, None, salt)
            slope += (gradient / per_image(gradient, _mean_size(gradient))).sum(0) / len(training)
        fooled, total = fooled + int(score.fooled.sum()), total + float(score.loss.sum())
    return (fooled, total / len(training)), slope


def _mean_size(gradient: Tensor) -> Tensor:
    """The mean size of each recording's gradient, (B,), above 0: that a network is sure of one makes it no larger."""
    return gradient.flatten(1).abs().mean(1).clamp(min=torch.finfo(gradient.dtype).tiny)


def _turned(patch: Patch, slope: Tensor, k: int) -> Tensor:
    """The pattern with the 1/k of the cells turned that the slope wants turned most."""
    gain = (slope * (1.0 - 2.0 * patch.pattern)).masked_fill(~patch.mask, 0.0).flatten()
    count = math.ceil(int((gain > 0).sum()) / k)
    order = gain.sort(descending=True, stable=True).indices[:count]
    turn = torch.zeros_like(gain, dtype=torch.bool).scatter(0, order, True).view_as(patch.mask)
    return torch.where(turn, 1.0 - patch.pattern, patch.pattern)


def _digests(x: Tensor) -> Iterator[str]:
    """Of each recording, by what is in it."""
    for each in x:
        yield hashlib.sha256(each.detach().cpu().double().numpy().tobytes()).hexdigest()
