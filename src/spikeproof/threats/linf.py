"""max |x - x0| <= eps, inside the box of the surface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spikeproof.tensors import uniform
from spikeproof.threats._ball import Ball

__all__ = ["Linf"]


@dataclass(frozen=True)
class Linf(Ball):
    """max |x - x0| <= eps and x in [0,1]. eps: a float, or a fraction such as '8/255'."""

    norm: ClassVar[str] = "Linf"

    def project(self, x: Tensor, x0: Tensor) -> Tensor:
        """The nearest admissible point; all shapes (B,*)."""
        low, high = self.box
        return torch.clamp(x, (x0 - self.eps).clamp(min=low), (x0 + self.eps).clamp(max=high))

    def ascend(self, gradient: Tensor) -> Tensor:
        """Steepest unit step: the sign; 0 where the gradient is exactly 0."""
        return gradient.sign()

    def distance(self, x: Tensor, x0: Tensor) -> Tensor:
        """(B,)."""
        return (x - x0).flatten(1).abs().amax(1)

    def sample(self, x0: Tensor, keys: Tensor) -> Tensor:
        """Uniform in the ball, then clipped to the box."""
        return self.project(x0 + self.eps * (2.0 * uniform(keys, x0.shape[1:]) - 1.0), x0)
