"""Frames of events as they are, one a step: the data bring the time, and nothing is encoded."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from spikeproof.errors import SpikeproofError, UsageError

__all__ = ["Frames"]


@dataclass(frozen=True)
class Frames:
    """z[t] = gain * x[t]; the gradient is exact.

    gain > 0: 1 for grids of ones and zeros; 255 gives a network the counts themselves, which data hold divided by 255.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.gain < float("inf"):
            raise UsageError("a gain > 0 of frames", self.gain)

    @property
    def stochastic(self) -> bool:
        return False

    @property
    def takes(self) -> str:
        return "TCHW"

    def __call__(self, x: Tensor, steps: int, keys: Tensor) -> Tensor:
        """Frames (B,T,C,H,W) with T = steps -> (T,B,C,H,W); the keys are not used. SpikeproofError for another T."""
        if x.shape[1] != steps:
            mend = f"steps: {x.shape[1]}, or data.frames: {steps}; the time is the second axis, after the batch"
            raise SpikeproofError(
                f"grids (B,{steps},C,H,W), a frame for each step", f"shape {tuple(x.shape)}", mend=mend
            )
        return x.transpose(0, 1) if self.gain == 1.0 else x.transpose(0, 1) * self.gain
