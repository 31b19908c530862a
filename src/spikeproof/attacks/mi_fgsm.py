"""MI-FGSM: sign steps along a running mean of normalised gradients (Dong et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from spikeproof.attacks._ascent import Momentum, ascend
from spikeproof.errors import UsageError
from spikeproof.types import Estimator, Objective, Threat

__all__ = ["MIFGSM"]


@dataclass(frozen=True)
class MIFGSM:
    """m <- decay m + g / mean|g| per image, step eps / steps along m, no random start.

    A gradient that is zero everywhere adds nothing; as usually written it makes the momentum NaN, and the image then
    never moves again.
    """

    asks_gradient: ClassVar[bool] = True
    steps: int = 10
    decay: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.decay < 0:
            raise UsageError("steps >= 1 and decay >= 0", f"steps={self.steps}, decay={self.decay}")

    @property
    def label(self) -> str:
        return f"mi-fgsm-{self.steps}"

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
        return ascend(
            f,
            x0,
            threat,
            estimator,
            keys,
            steps=self.steps,
            length=lambda k: threat.eps / self.steps,
            direction=lambda: Momentum(threat, self.decay),
            start=lambda x, k: x,
            given=start,
        )
