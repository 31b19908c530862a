"""Weighted phase coding: the bit planes of a pixel, most significant first, one a time step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from spikeproof.errors import UsageError
from spikeproof.tensors import graft, integers, per_image

__all__ = ["Phase"]

_GRADIENTS = ("secant", "straight", "weighted", "blend")


@dataclass(frozen=True)
class Phase:
    """Step t carries bit (t mod K) of the level v = round((2^K - 1) x), unweighted (0 or 1), as the paper's code does.

    planes: K, 1..16. With K = 8 the levels are the grey levels of an 8-bit image; with T = 10 the two most significant
    planes come twice. The backward gives each bit a slope c_k in units of v / 2^K (Luu et al.; slopes: our own):
    - 'secant': the finite difference over +-h levels, h drawn per image from its key in 1..reach, so that it changes
      from step to step of an attack. A bit that no admissible step can flip gets slope 0, a bit that flips gets a
      large one of the right sign: measured the strongest by far.
    - 'straight': c_k = 1 (straight-through); 'weighted': c_k = 2^k / K, k = 1 the most significant.
    - 'blend': the mean of 'secant' and 'straight', so that a plane that the drawn h cannot flip still counts (the least
      significant bit, for one: the window v +- h is of even width).
    For every finite difference sum_k 2^-k c_k = 1 exactly. Which is strongest depends on the images and on eps: an
    evaluation may name another encoder for the attacker, with the same forward.
    """

    planes: int = 8
    gradient: Literal["secant", "straight", "weighted", "blend"] = "blend"
    reach: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.planes <= 16:
            raise UsageError("planes in 1..16", self.planes)
        if self.gradient not in _GRADIENTS:
            raise UsageError("a phase gradient", repr(self.gradient), valid=_GRADIENTS)
        if not 1 <= self.reach <= self._top:
            raise UsageError(f"a secant reach in 1..{self._top} levels", self.reach)

    @property
    def stochastic(self) -> bool:
        return False

    @property
    def _top(self) -> int:
        return (1 << self.planes) - 1

    def _bits(self, levels: Tensor) -> Tensor:
        """Levels (B,*) int64 -> bit planes (K,B,*), most significant first."""
        places = torch.arange(self.planes - 1, -1, -1, device=levels.device).view(-1, *[1] * levels.dim())
        return (levels >> places).bitwise_and_(1)

    def _slopes(self, levels: Tensor, keys: Tensor, x: Tensor) -> Tensor:
        """d bit / d (v / 2^K): broadcastable to (K,B,*)."""
        shape = (self.planes, *[1] * x.dim())
        if self.gradient == "straight":
            return x.new_ones(shape)
        if self.gradient == "weighted":
            return (2.0 ** torch.arange(1, self.planes + 1, device=x.device, dtype=x.dtype)).view(shape) / self.planes
        h = per_image(levels, integers(keys, 1, self.reach).to(levels.device))
        above, below = (levels + h).clamp(max=self._top), (levels - h).clamp(min=0)
        rise = (self._bits(above) - self._bits(below)).to(x.dtype)
        secant = rise * float(1 << self.planes) / (above - below).to(x.dtype)
        return secant if self.gradient == "secant" else (secant + 1.0) / 2.0

    def __call__(self, x: Tensor, steps: int, keys: Tensor) -> Tensor:
        """Pixels (B,*) in [0,1] -> bits (T,B,*) in {0,1}. Pixels between two levels count as the nearest level."""
        bits, order = self.frames(x, steps, keys)
        return bits[order]

    def frames(self, x: Tensor, steps: int, keys: Tensor) -> tuple[Tensor, Tensor]:
        """The frames that differ (K,B,*), and which comes at each step (T,)."""
        levels = torch.round(x.detach() * self._top).to(torch.int64)
        bits = self._bits(levels).to(x.dtype)
        if x.requires_grad:
            bits = graft(bits, self._slopes(levels, keys, x) * (x * (self._top / (1 << self.planes))))
        return bits, torch.arange(steps, device=x.device) % self.planes
