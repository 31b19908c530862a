"""Smooth twin: the gradient of the same network with smooth spikes, forward and backward; a source to transfer from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from spikeproof.errors import UsageError
from spikeproof.estimators._backward import backward
from spikeproof.rules import Surrogate
from spikeproof.rules.atan import ATan
from spikeproof.tensors import exact
from spikeproof.types import Carry, Neuron, Objective, Rule, Score

__all__ = ["SmoothTwin"]


@dataclass(frozen=True)
class SmoothTwin:
    """The twin has the weights of the deployed network and emits primitive(u - v_threshold), in [0,1], where that one
    fires: nothing is cut or grafted, so its gradient is the true one, through time and reset. What it is good for is
    said by the deployed network: the score is that of the exact forward at the same point.

    `rule` is the surrogate whose shape is taken; the sharpness is `alpha`. Costs two forwards and one backward. The two
    networks answer differently; a larger alpha brings them together, and the gradient nearer to the true one of spikes,
    which is 0.
    """

    rule: Surrogate = field(default_factory=ATan)
    alpha: float = 4.0

    def __post_init__(self) -> None:
        if not isinstance(self.rule, Surrogate):
            raise UsageError("a fixed surrogate for the smooth twin", self.rule, mend="for example atan")
        replace(self.rule, alpha=self.alpha)  # refuses a sharpness that is none

    def init(self, x: Tensor) -> Carry:
        return None

    def of(self, carry: Carry, index: Tensor) -> Carry:
        return None

    def __call__(self, f: Objective, x: Tensor, carry: Carry, salt: int) -> tuple[Score, Tensor, Carry]:
        """Score of the deployed network, gradient (B,*) of the twin, carry. Refuses as the white box does."""
        with torch.no_grad():
            score = f(x, exact, salt)
        _, gradient = backward(f, x, self._twin(), salt)
        return score, gradient, carry

    def _twin(self) -> Rule:
        shape = replace(self.rule, alpha=self.alpha)

        def rule(neuron: Neuron, currents: Tensor, site: str) -> Tensor:
            return neuron.run(currents, lambda height, step: shape.primitive(height), through_reset=True)

        return rule
