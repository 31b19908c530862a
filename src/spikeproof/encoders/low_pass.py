"""Low-pass coding: the image at every step, each step with fewer of the high spatial frequencies (FEEL's encoder)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from spikeproof.errors import UsageError
from spikeproof.types import Knob

__all__ = ["LowPass"]


@dataclass(frozen=True)
class LowPass:
    """z[t] keeps the frequencies of the image within a centred square window of half-width r_t.

    r_t = r_0 (1 - drop t), rounded and at least 1, r_0 half of the larger side, so that step 0 is the image itself.
    "FEEL-SNN" (NeurIPS 2024): r falls by 2 a step from 16 on 32x32 pixels, drop = 1/8; its neurons are `step_leak`.
    window 'symmetric' keeps -r..r, whose inverse is real, and clips it to [0,1]. 'faithful' is the released code's:
    -r..r-1, one row and column short, so that the inverse has an imaginary part, of which the magnitude is taken; its
    values may leave [0,1], and its slope has a kink at 0. The gradient is exact in both, 0 where a pixel is clipped.
    """

    KNOB: ClassVar[Knob] = Knob("drop", (0.09, 0.125, 0.2, 0.25, 0.5))

    drop: float = 0.125
    window: Literal["symmetric", "faithful"] = "symmetric"

    def __post_init__(self) -> None:
        if not 0 <= self.drop <= 1:
            raise UsageError("drop in [0,1], the share of the half-width lost at each step", self.drop)
        if self.window not in ("symmetric", "faithful"):
            raise UsageError("a window", repr(self.window), valid=["symmetric", "faithful"])

    @property
    def stochastic(self) -> bool:
        return False

    def radius(self, step: int, size: int) -> int:
        """r_t for images whose larger side has `size` pixels."""
        return max(1, round((size // 2) * max(0.0, 1.0 - self.drop * step)))

    def _kept(self, size: int, radius: int, like: Tensor) -> Tensor:
        """Which of the frequencies of `size` pixels pass, in the order of the transform: 0.0 or 1.0."""
        frequency = torch.fft.fftfreq(size, 1 / size, device=like.device).round()
        over = frequency <= radius if self.window == "symmetric" else frequency < radius
        kept: Tensor = (frequency >= -radius) & over
        return kept.to(like.dtype)

    def __call__(self, x: Tensor, steps: int, keys: Tensor) -> Tensor:
        """Pixels (B,*,H,W) in [0,1] -> (T,B,*,H,W); in [0,1] with the symmetric window. The keys are not used."""
        height, width = x.shape[-2:]
        spectrum, coded = torch.fft.fft2(x), []
        for step in range(steps):
            r = self.radius(step, max(height, width))
            mask = self._kept(height, r, x)[:, None] * self._kept(width, r, x)
            back = x.to(spectrum.dtype) if bool(mask.all()) else torch.fft.ifft2(spectrum * mask)
            coded.append(back.real.clamp(0.0, 1.0) if self.window == "symmetric" else back.abs())
        return torch.stack(coded)
