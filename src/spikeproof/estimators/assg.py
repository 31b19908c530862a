"""ASSG: a surrogate whose sharpness follows each neuron's distance from its threshold along the attack."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.estimators._backward import backward
from spikeproof.rules import Surrogate
from spikeproof.rules.atan import ATan
from spikeproof.tensors import graft, heaviside
from spikeproof.types import Carry, Neuron, Objective, Rule, Score

__all__ = ["ASSG"]

_Memory = dict[str, tuple[Tensor, Tensor]]
"""Site -> running mean M of |u - v_threshold| and running deviation D of it, each (T,B,*)."""


@dataclass(frozen=True)
class ASSG:
    """alpha[t] = omega / (M[t] + relax D[t] + 1e-4), per neuron, image and time step (arXiv 2512.22522).

    M <- decay M + (1 - decay) a and D <- decay D + (1 - decay) |a - M|, a = |u[t] - v_threshold|, once per call, from
    M = 1 and D = 0. omega is where the surrogate holds the share `mass` of its area: on average no more than that
    vanishes. The memory is the carry of one attack run, image by image; nothing is on the network, and only
    gradient calls move it. It needs some 50 steps to settle: with 10 it is hardly adaptive yet.
    `rule` is the surrogate whose shape is scaled (its alpha is not used) and whose reset and time options are kept.
    """

    rule: Surrogate = field(default_factory=ATan)
    mass: float = 0.85
    decay: float = 0.9
    relax: float = 1.5

    def __post_init__(self) -> None:
        if not isinstance(self.rule, Surrogate):
            raise UsageError("a fixed surrogate to scale in ASSG", self.rule, mend="for example atan")
        if not 0 < self.mass < 1 or not 0 <= self.decay < 1 or self.relax < 0:
            raise UsageError("mass in (0,1), decay in [0,1) and relax >= 0", self)

    def init(self, x: Tensor) -> Carry:
        return {}

    def of(self, carry: Carry, index: Tensor) -> Carry:
        return {site: (mean[:, index], deviation[:, index]) for site, (mean, deviation) in carry.items()}

    def __call__(self, f: Objective, x: Tensor, carry: Carry, salt: int) -> tuple[Score, Tensor, Carry]:
        """Score, gradient (B,*), and the memory after this step."""
        memory: _Memory = {}
        score, gradient = backward(f, x, self._scaled(carry, memory), salt)
        return score, gradient, memory

    def _scaled(self, old: _Memory, new: _Memory) -> Rule:
        """The rule of one step: reads `old`, writes `new`."""
        shape = self.rule
        omega = shape.mass_radius(self.mass)
        unit = type(shape)(alpha=1.0)

        def rule(neuron: Neuron, currents: Tensor, site: str) -> Tensor:
            start = (torch.ones_like(currents.detach()), torch.zeros_like(currents.detach()))
            before_m, before_d = old.get(site, start)
            if before_m.shape != currents.shape:
                raise SpikeproofError(
                    f"the batch that ASSG's memory belongs to at {site}, {tuple(before_m.shape)}",
                    tuple(currents.shape),
                    mend="start a new attack run for another batch",
                )
            means: list[Tensor] = []
            deviations: list[Tensor] = []

            def fire(height: Tensor, step: int) -> Tensor:
                a = height.detach().abs()
                means.append(self.decay * before_m[step] + (1 - self.decay) * a)
                deviations.append(self.decay * before_d[step] + (1 - self.decay) * (a - means[-1]).abs())
                alpha = omega / (means[-1] + self.relax * deviations[-1] + 1e-4)
                return graft(heaviside(height), unit.primitive(alpha * height))

            spikes = neuron.run(currents, fire, through_time=shape.through_time, through_reset=shape.through_reset)
            new[site] = (torch.stack(means), torch.stack(deviations))
            return spikes

        return rule
