"""The loop that the iterative attacks share: start, step, project, keep the best.

What differs between them is how a gradient becomes a direction (a stepper) and how long the step is (a schedule); each
is an argument, so that no attack is a copy of another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from spikeproof.attacks._best import Best
from spikeproof.attacks._options import check_ball
from spikeproof.tensors import exact, fold, per_image
from spikeproof.types import Estimator, Objective, Threat

__all__ = ["Direction", "Momentum", "StableAdaptive", "Steepest", "ascend", "checkpoints"]


class Direction(Protocol):
    """Gradient (B,*) -> what a step of length 1 adds, (B,*); made anew for each run, so that it may remember."""

    def __call__(self, gradient: Tensor) -> Tensor: ...

    def keep(self, index: Tensor) -> None:
        """Forget all images but those of the index (n,)."""
        ...


class Steepest:
    """The threat's own steepest ascent: sign for L-inf, g/||g|| for L2."""

    def __init__(self, threat: Threat) -> None:
        self._threat = threat

    def __call__(self, gradient: Tensor) -> Tensor:
        return self._threat.ascend(gradient)

    def keep(self, index: Tensor) -> None:
        pass


def _per_mean(g: Tensor) -> Tensor:
    """g / mean|g| of each image; all zeros stay zeros, because 0 / floor is 0 and not NaN."""
    return g / per_image(g, g.flatten(1).abs().mean(1).clamp(min=torch.finfo(g.dtype).tiny))


class Momentum:
    """m <- decay m + g / mean|g|, then the threat's steepest ascent along m. An all-zero gradient adds nothing."""

    def __init__(self, threat: Threat, decay: float) -> None:
        self._threat, self._decay = threat, decay
        self._m: Tensor | None = None

    def __call__(self, gradient: Tensor) -> Tensor:
        m = _per_mean(gradient)
        self._m = m if self._m is None else self._decay * self._m + m
        return self._threat.ascend(self._m)

    def keep(self, index: Tensor) -> None:
        self._m = None if self._m is None else self._m[index]


class StableAdaptive:
    """clip(m / sqrt(v), -1, 1), m <- 0.5 m + g / mean|g|, v <- 0.8 v + g^2 / mean g^2, both starting at their first
    value. The first step is sign(g); a coordinate that oscillates gets about a third of the step; one whose gradient is
    zero now still moves by what it remembers."""

    def __init__(self) -> None:
        self._m: Tensor | None = None
        self._v: Tensor | None = None

    def __call__(self, gradient: Tensor) -> Tensor:
        m = _per_mean(gradient)
        v = _per_mean(m.square())  # not of g: the square of a small float32 gradient is 0
        self._m = m if self._m is None else 0.5 * self._m + m
        self._v = v if self._v is None else 0.8 * self._v + v
        return (self._m / (self._v.sqrt() + 1e-12)).clamp(-1.0, 1.0)

    def keep(self, index: Tensor) -> None:
        self._m = None if self._m is None else self._m[index]
        self._v = None if self._v is None else self._v[index]


def checkpoints(steps: int) -> list[int]:
    """After which steps APGD looks back: first after 22 % of them, then in windows ever 3 % shorter, at least 6 %."""
    window, shrink, least = (max(int(share * steps), 1) for share in (0.22, 0.03, 0.06))
    found, at = [], window
    while at <= steps:
        found.append(at)
        window = max(window - shrink, least)
        at += window
    return found


def ascend(
    f: Objective,
    x0: Tensor,
    threat: Threat,
    estimator: Estimator,
    keys: Tensor,
    *,
    steps: int,
    length: Callable[[int], float],
    direction: Callable[[], Direction],
    start: Callable[[Tensor, Tensor], Tensor],
    given: Tensor | None = None,
    restarts: int = 1,
    keep_best: bool = True,
) -> Tensor:
    """x <- project(x + length(k) * direction(gradient)), k = 0..steps-1, once for each restart from start(x0, keys),
    the first from the points `given` (B,*), where there are any.

    Returns the best point met (fooled before not fooled, then the highest loss; the first fooled one where that is
    final), or the last iterate of the last restart. Costs `steps` gradients a restart, and one forward more where the
    best is kept; of an image whose success is final, those until then.
    """
    check_ball(threat)
    best = Best(x0, final=keep_best and f.final)
    x = x0
    for restart in range(restarts):
        part = best.standing(f, x0)
        if not len(part.at):
            break
        if given is None or restart > 0:
            x = start(part.x0, fold(keys, f"start {restart}")[part.at])
        else:
            x = threat.project(given, x0)
        carry, towards = estimator.init(x), direction()
        for k in range(steps):
            # The salt differs in every call: fresh noise for stochastic encoders, fresh secants for codes.
            salt = restart * (steps + 1) + k
            score, gradient, carry = estimator(part.f, x, carry, salt)
            if keep_best:
                best.offer(x, score, part.at)
            if (on := best.going_on(part.at)) is not None:
                part, x, gradient, carry = part.of(on), x[on], gradient[on], estimator.of(carry, on)
                towards.keep(on)
                if not len(on):
                    break
            x = threat.project(x + length(k) * towards(gradient), part.x0)
        if keep_best and len(x):
            with torch.no_grad():
                best.offer(x, part.f(x, exact, restart * (steps + 1) + steps), part.at)
    return best.x if keep_best else x
