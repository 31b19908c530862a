"""One batch under attack: where an attack starts, what a point there is worth, and what the judge says of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from spikeproof import parts
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.losses import difference, margin, targeted
from spikeproof.rows import Spent
from spikeproof.surfaces.encoded import Encoded
from spikeproof.tensors import exact, fold, on_grid
from spikeproof.types import Grid, Loss, Objective, Rule, Score, Surface, Threat
from spikeproof.victims.victim import Victim

__all__ = ["BUDGET_TOLERANCE", "STOCHASTIC_DRAWS", "Cost", "Scene", "Verdict", "verdict"]

BUDGET_TOLERANCE = 1e-6
"""Slack of the budget (absolute, and relative to eps) and of the box: float32's (x + d) - x is off by up to 6e-8."""

COMMON_DRAWS = 5
"""Draws of a stochastic encoder behind the answer to a query."""

STOCHASTIC_DRAWS = 20
"""Fresh encodings behind the verdict on a stochastic victim; the class with most votes is the answer."""


def _finite(logits: Tensor) -> Tensor:
    if not bool(torch.isfinite(logits).all()):
        raise SpikeproofError(
            "finite logits", "NaN or infinity", mend="a NaN never counts as a broken image: mend the weights"
        )
    return logits


@dataclass(frozen=True)
class Verdict:
    """predicted (B,) int64; margin (B,): z_y - max other; right (B,): the share of the draws that are right."""

    predicted: Tensor
    margin: Tensor
    right: Tensor


@torch.no_grad()
def verdict(classify: Callable[[Tensor], Tensor], y: Tensor, keys: Tensor, draws: int) -> Verdict:
    """What `classify(keys) -> logits (B,K)` says, on noise that no attack has seen.

    With several draws: the class with most votes (the lowest number where tied) and the mean margin.
    """
    votes: list[Tensor] = []
    margins: list[Tensor] = []
    for draw in range(draws):
        logits = _finite(classify(fold(keys, f"verdict {draw}")))
        votes.append(F.one_hot(logits.argmax(1), logits.shape[1]))
        margins.append(-margin(logits, y))
    counts = torch.stack(votes).sum(0)
    return Verdict(counts.argmax(1), torch.stack(margins).mean(0), counts.gather(1, y[:, None])[:, 0] / draws)


class Cost:
    """How many forward and backward passes each image of a batch took part in: (B,) int64 each, on the CPU."""

    def __init__(self, images: int) -> None:
        self.forwards = torch.zeros(images, dtype=torch.int64)
        self.backwards = torch.zeros(images, dtype=torch.int64)

    def rows(self) -> list[Spent]:
        """For each image what its row says of it."""
        columns = zip(self.forwards.tolist(), self.backwards.tolist(), strict=True)
        return [{"forwards": forwards, "backwards": backwards} for forwards, backwards in columns]


class Scene:
    """A victim, a batch and a surface. x (B,*), y (B,), keys (B,); `start` is the clean point on the surface, which is
    given by its name.

    survivors: an attack goes on with those images alone that it has not fooled yet. That changes no verdict, only which
    point of a fooled image is returned, its first, and what is spent on it.
    """

    def __init__(
        self, victim: Victim, x: Tensor, y: Tensor, keys: Tensor, surface: str, *, survivors: bool = False
    ) -> None:
        self.victim, self.y, self.keys, self.survivors = victim, y, keys, survivors
        self.surface = parts.surface(surface)
        self.start = self.surface.start(victim, x, keys)

    def of(self, index: Tensor) -> Self:
        """The scene of some of its images: index (n,) int64."""
        part = copy.copy(self)  # not made anew: a clean point behind the encoder is not encoded again
        part.y, part.keys, part.start = self.y[index], self.keys[index], self.start[index]
        part.__dict__.pop("ranked", None)
        if "ranked" in vars(self):
            part.ranked = self.ranked[index]
        return part

    def moved(self, surface: Surface) -> Scene:
        """The scene of the same images on another surface; this one must be before the encoder."""
        there = copy.copy(self)
        there.surface, there.start = surface, surface.start(self.victim, self.start, self.keys)
        there.__dict__.pop("ranked", None)
        return there

    @property
    def stochastic(self) -> bool:
        """Whether one point may be classified in several ways; behind the encoder nothing is random."""
        return self.victim.stochastic and self.surface.before_encoder

    def logits(self, point: Tensor, rule: Rule, keys: Tensor) -> Tensor:
        """Point (B,*) on the surface -> finite logits (B,K)."""
        return _finite(self.surface.logits(self.victim, point, rule, keys))

    def objective(self, loss: Loss, cost: Cost | None = None) -> Objective:
        """What an attack raises; every call is counted in `cost`, where one is given."""
        count = len(self.y)
        return _Objective(self, loss, cost or Cost(count), torch.arange(count))

    def ascent(self, loss: Loss) -> Objective:
        """The same of a loss that is raised for its own sake: nothing counts as fooled, the loss alone chooses."""
        return _Ascent(self, loss, Cost(len(self.y)), torch.arange(len(self.y)))

    @cached_property
    def ranked(self) -> Tensor:
        """Classes other than the label by the clean logits, likeliest first, lowest number first in a tie: (B,K-1)."""
        with torch.no_grad():
            logits = self.logits(self.start, exact, fold(self.keys, "ranks"))
        last = logits.scatter(1, self.y[:, None], float("-inf"))
        return torch.sort(last, dim=1, descending=True, stable=True).indices[:, :-1]

    def judge(self, point: Tensor, purpose: str) -> Verdict:
        """The exact forward on fresh noise; `purpose` names the noise."""
        keys = fold(self.keys, purpose)
        return verdict(lambda k: self.logits(point, exact, k), self.y, keys, STOCHASTIC_DRAWS if self.stochastic else 1)

    def check_budget(self, attack: str, point: Tensor, threat: Threat) -> Tensor:
        """Distance (B,) of what an attack proposes; SpikeproofError where it breaks the budget, the box
        or the grid, or is NaN."""
        distance = threat.distance(point, self.start)
        if isinstance(self.surface, Grid) and not torch.equal(point, on_grid(point, self.surface.quantum)):
            got = float(point[point != on_grid(point, self.surface.quantum)][0])
            expected = f"whole events, multiples of {self.surface.quantum:.6g}, from attack {attack!r}"
            raise SpikeproofError(expected, f"{got:.6g}", mend="project in the attack: threat.project(x, x0)")
        allowed = threat.eps * (1.0 + BUDGET_TOLERANCE) + BUDGET_TOLERANCE
        least, most = self.surface.box
        inside = (point >= least - BUDGET_TOLERANCE) & (point <= most + BUDGET_TOLERANCE)
        # NaN fails every comparison, so it is refused here too.
        if not bool(inside.all()) or not bool((distance <= allowed).all()):
            far, low, high = float(distance.max()), float(point.min()), float(point.max())
            raise SpikeproofError(
                f"points within eps {threat.eps:.6g} and [{least:g},{most:g}] from attack {attack!r}",
                f"distance up to {far:.6g}, values {low:.6g}..{high:.6g}",
                mend="project in the attack: threat.project(x, x0)",
            )
        return distance


class _Objective:
    """`Objective` over a scene; the protocol says what each method is.

    at: where its images stand in `cost`; targets (B,): given to the loss where it is a targeted one.
    """

    def __init__(
        self, scene: Scene, loss: Callable[..., Tensor], cost: Cost, at: Tensor, targets: Tensor | None = None
    ) -> None:
        self._scene, self._loss, self._cost, self._at, self._targets = scene, loss, cost, at, targets
        self.keys, self.classes, self.final = scene.keys, scene.victim.classes, scene.survivors

    def __call__(self, point: Tensor, rule: Rule, salt: int) -> Score:
        scene = self._scene
        if rule is exact and scene.stochastic:
            # A query: what is compared with other queries is asked under the same noise, else the luckiest draw wins.
            answers = [self._once(point, rule, f"common {draw}").loss for draw in range(COMMON_DRAWS)]
            return Score(torch.stack(answers).mean(0), torch.zeros_like(answers[0], dtype=torch.bool))
        score = self._once(point, rule, salt)
        # One lucky draw of a stochastic encoder is no success: there the loss alone chooses the point.
        return score._replace(fooled=score.fooled & (not scene.stochastic))

    def _once(self, point: Tensor, rule: Rule, salt: int | str) -> Score:
        scene = self._scene
        once = torch.ones_like(self._at)
        self._cost.forwards.index_add_(0, self._at, once)  # an image counts as often as it stands in the pass
        self._cost.backwards.index_add_(0, self._at, once * int(point.requires_grad))
        logits = scene.logits(point, rule, fold(scene.keys, salt))
        aims = () if self._targets is None else (self._targets,)
        return Score(self._loss(logits, scene.y, *aims), logits.detach().argmax(1) != scene.y)

    def of(self, index: Tensor) -> Objective:
        targets = None if self._targets is None else self._targets[index]
        return type(self)(self._scene.of(index), self._loss, self._cost, self._at[index.cpu()], targets)

    def _towards(self, rank: int, form: Callable[..., Tensor]) -> Objective:
        if not 1 <= rank < self.classes:
            raise UsageError(f"the rank of a target in 1..{self.classes - 1}", rank)
        # The first who asks pays for the ranking.
        self._cost.forwards[self._at] += int("ranked" not in vars(self._scene))
        return type(self)(self._scene, form, self._cost, self._at, self._scene.ranked[:, rank - 1])

    def aimed(self, rank: int) -> Objective:
        return self._towards(rank, targeted(self._loss))

    def difference(self, rank: int) -> Objective:
        return self._towards(rank, difference)

    def encode(self, point: Tensor) -> Tensor:
        victim = self._scene.victim
        if victim.stochastic:
            raise UsageError("a deterministic encoder for a search over codes", victim.encoder)
        keys = self.keys.new_zeros(len(point))
        return victim.encoder(point, victim.steps, keys).transpose(0, 1)

    def encoded(self) -> Objective:
        here = self._scene
        if not here.surface.before_encoder:
            return self
        scene = here.moved(Encoded())
        return type(self)(scene, self._loss, self._cost, self._at, self._targets)


class _Ascent(_Objective):
    def __call__(self, point: Tensor, rule: Rule, salt: int) -> Score:
        found = super().__call__(point, rule, salt)
        return found._replace(fooled=torch.zeros_like(found.fooled))
