"""What every corruption shares: a severity from 1 to 5, and the way to SciPy and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from spikeproof.errors import UsageError

__all__ = ["AtSeverity", "array", "tensor_like", "width"]

T = TypeVar("T")


@dataclass(frozen=True)
class AtSeverity:
    """severity: 1..5, else UsageError."""

    severity: int

    def __post_init__(self) -> None:
        if self.severity not in range(1, 6):
            raise UsageError("a severity in 1..5", repr(self.severity))

    def pick(self, values: Sequence[T]) -> T:
        """The value of this severity."""
        return values[self.severity - 1]


def width(x: Tensor) -> float:
    """How many pixels of x (B,C,H,W) one pixel of a 32x32 image is; at least 1."""
    return max(1.0, min(x.shape[-2:]) / 32)


def array(x: Tensor) -> np.ndarray:
    """In float64 on the CPU."""
    return x.detach().double().cpu().numpy()


def tensor_like(values: np.ndarray, x: Tensor) -> Tensor:
    """Back to the type and device of x, within [0,1]."""
    return torch.as_tensor(values).to(x).clamp(0.0, 1.0)
