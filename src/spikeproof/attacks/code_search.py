"""Code search: each pixel to the grey level whose code the gradient behind the encoder likes best; no slope of a code.

Our own, for deterministic codes that treat each pixel by itself (direct, phase, latency). The gradient with respect to
the code is exact there, and a code has few values, so the encoder is enumerated instead of differentiated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spikeproof import parts
from spikeproof.attacks._best import Best, Part
from spikeproof.errors import UsageError
from spikeproof.tensors import fold, per_image, uniform
from spikeproof.types import Estimator, Objective, Score, Threat

__all__ = ["CodeSearch"]


@dataclass(frozen=True)
class CodeSearch:
    """Linearised search over codes under L-inf on pixels. `levels`: 255 for 8-bit images, whose pixels are k/255.

    With g (B,T,*) the gradient at the current code z, the level c promises a pixel sum_t g_t (code_t(c) - z_t). Each
    pixel's best admissible level is found, and the pixels of the largest promise move to theirs: the share p of all, at
    least one. Promises are weighted by fresh random factors in [0.5, 1.5], so that a refused move is not repeated. An
    image takes the move where it is then fooled or its loss rises, and p grows by 1.3; else it stays, and p shrinks to
    0.6 p. A pixel that is moved lies on a level inside the ball; one that never moves keeps its value at the start.
    For direct coding a step with p = 1 is FGSM.

    Restarts after the first begin at random levels; a climb stalls early, so that several short ones beat a long one.
    Returns the best point met; costs steps + 1 gradients a restart, the estimator's on the surface behind the encoder.
    Where a success is final, an image that a restart has fooled takes no part in the next.
    """

    asks_gradient: ClassVar[bool] = True
    steps: int = 25
    restarts: int = 4
    p: float = 1.0
    levels: int = 255

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1 or not 0 < self.p <= 1 or not 1 <= self.levels <= 255:
            raise UsageError("steps and restarts >= 1, levels in 1..255, and p in (0,1]", self)

    @property
    def label(self) -> str:
        return f"code-search-{self.steps}"

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
        if threat.norm != "Linf" or not parts.surface(threat.surface).before_encoder:
            raise UsageError("the Linf threat on pixels for code search", f"{threat.norm} on {threat.surface}")
        best = Best(x0)
        for restart in range(self.restarts):
            part = best.standing(f, x0)
            if not len(part.at):
                break
            here = fold(keys, f"code search {restart}")[part.at]
            book = _Codebook(part.f, part.x0, threat.eps, self.levels)
            if restart:
                x = book.nearest(threat.sample(part.x0, here))
            else:
                x = part.x0 if start is None else threat.project(start, x0)
            self._climb(part, book, x, estimator, here, best, restart * (self.steps + 1))
        return best.x

    def _climb(
        self, part: Part, book: _Codebook, x: Tensor, estimator: Estimator, keys: Tensor, best: Best, salt: int
    ) -> None:
        """One run from x (n,*); offers every point that it scores."""
        f, behind = part.f, part.f.encoded()
        z = f.encode(x)
        held, gradient, carry = estimator(behind, z, estimator.init(z), salt)
        best.offer(x, held, part.at)
        p, least = torch.full((len(x),), self.p, device=x.device), 1 / x.shape[1:].numel()
        for step in range(1, self.steps + 1):
            level, promise = book.best(gradient, z)
            promise = promise * (0.5 + uniform(fold(keys, step), x.shape[1:]).to(x))
            tried = torch.where(_largest(promise, p), level.to(x) / self.levels, x)
            code = f.encode(tried)
            score, slope, carry = estimator(behind, code, carry, salt + step)
            best.offer(tried, score, part.at)
            better = (score.fooled & ~held.fooled) | ((score.fooled == held.fooled) & (score.loss > held.loss))
            x = torch.where(per_image(x, better), tried, x)
            z = torch.where(per_image(z, better), code, z)
            gradient = torch.where(per_image(z, better), slope, gradient)
            held = Score(torch.where(better, score.loss, held.loss), held.fooled | (better & score.fooled))
            p = torch.where(better, 1.3 * p, 0.6 * p).clamp(least, 1.0)


def _largest(promise: Tensor, p: Tensor) -> Tensor:
    """Where the share p (B,) of an image's pixels with the largest promise > 0 is, at least one: bool (B,*)."""
    flat = promise.flatten(1)
    count = (p * flat.shape[1]).round().long().clamp(min=1)
    least = flat.sort(1, descending=True).values.gather(1, count[:, None] - 1)
    return ((flat >= least) & (flat > 0)).view_as(promise)


class _Codebook:
    """The code of every grey level, and which levels are admissible around x0."""

    def __init__(self, f: Objective, x0: Tensor, eps: float, levels: int) -> None:
        self._x0, self._levels = x0, levels
        # Rounding of c / levels - x0, far below what the judge forgives.
        self._eps = eps + 4 * torch.finfo(x0.dtype).eps
        self._reach = min(int(levels * self._eps + 0.5), levels)
        self._table = f.encode(torch.arange(levels + 1).to(x0)[:, None] / levels)[..., 0]  # (levels + 1, T)
        self._start = (x0 * levels).round().long()
        if not torch.equal(f.encode(self._start.to(x0) / levels), self._code(self._start)):
            raise UsageError(
                "an encoder that codes each pixel by itself, for code search", "one that looks at others too"
            )

    def _code(self, level: Tensor) -> Tensor:
        """Levels (B,*) -> codes (B,T,*)."""
        return self._table[level].movedim(-1, 1)

    def _inside(self, level: Tensor) -> Tensor:
        """Whether each level (B,*) exists and lies in the ball."""
        near = (level.to(self._x0) / self._levels - self._x0).abs() <= self._eps
        return near & (level >= 0) & (level <= self._levels)

    def nearest(self, x: Tensor) -> Tensor:
        """x (B,*) with each pixel on its nearest level, or at x0 where that is not in the ball."""
        level = (x * self._levels).round().long()
        return torch.where(self._inside(level), level.to(x) / self._levels, self._x0)

    def best(self, gradient: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """The admissible level of largest promise, and the promise, 0 where none gains: (B,*) each."""
        now = (gradient * z).sum(1)
        promise, found = torch.zeros_like(now), self._start
        for offset in range(-self._reach, self._reach + 1):  # one level at a time: all of them would fill the memory
            level = self._start + offset
            gain = (gradient * self._code(level.clamp(0, self._levels))).sum(1) - now
            better = self._inside(level) & (gain > promise)
            promise, found = torch.where(better, gain, promise), torch.where(better, level, found)
        return found, promise
