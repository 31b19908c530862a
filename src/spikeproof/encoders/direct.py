"""Direct (constant-current) coding: the image itself at every step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Direct"]


@dataclass(frozen=True)
class Direct:
    """z[t] = x for all t; the gradient is exact, the sum over time."""

    @property
    def stochastic(self) -> bool:
        return False

    def __call__(self, x: Tensor, steps: int, keys: Tensor) -> Tensor:
        """Pixels (B,*) -> (T,B,*) in [0,1]; the keys are not used."""
        return x.unsqueeze(0).expand(steps, *x.shape)

    def frames(self, x: Tensor, steps: int, keys: Tensor) -> tuple[Tensor, Tensor]:
        """The one frame (1,B,*), and that it comes at each step (T,)."""
        return x.unsqueeze(0), torch.zeros(steps, dtype=torch.int64, device=x.device)
