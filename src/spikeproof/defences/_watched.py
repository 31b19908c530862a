"""Looking on at the forwards of a training step: a victim and rules that pass everything on and keep what they saw.

They live for one step, so that nothing is stored on a model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from spikeproof.errors import SpikeproofError
from spikeproof.types import Fire, Neuron, Rule, VictimLike

__all__ = ["Currents", "Forward", "Heights", "Seen"]


class Forward(NamedTuple):
    """Pixels (B,C,H,W) that want a gradient, their keys (B,), logits (B,K) with graph."""

    x: Tensor
    keys: Tensor
    logits: Tensor


class Seen:
    """A victim that keeps every forward, differentiable in its pixels."""

    def __init__(self, victim: VictimLike) -> None:
        self._victim = victim
        self.forwards: list[Forward] = []

    def encode(self, x: Tensor, keys: Tensor) -> Tensor:
        return self._victim.encode(x, keys)

    def classify(self, z: Tensor, rule: Rule) -> Tensor:
        return self._victim.classify(z, rule)

    def __call__(self, x: Tensor, rule: Rule, keys: Tensor) -> Tensor:
        x = x if x.requires_grad else x.detach().requires_grad_()
        logits = self._victim(x, rule, keys)
        self.forwards.append(Forward(x, keys, logits))
        return logits


class Heights:
    """A rule that keeps every spiking layer's heights above the threshold, before the reset, with graph.

    seen: by the layer's name, one (T,B,*) for each forward.

    The inner rule meets a stand-in for the neuron, and so takes its plain form: the fused one hides the membranes.
    """

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self.seen: dict[str, list[Tensor]] = {}

    def __call__(self, neuron: Neuron, currents: Tensor, site: str) -> Tensor:
        heard = _Heard(neuron)
        spikes = self._rule(heard, currents, site)
        heights = torch.stack(heard.heights)
        if currents.requires_grad and not heights.requires_grad:
            raise SpikeproofError(
                "a rule that keeps the membranes in the graph, for a penalty on them",
                f"{self._rule}",
                mend="a surrogate, such as rule: {name: atan}",
            )
        self.seen.setdefault(site, []).append(heights)
        return spikes

    def mean(self, measure: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """For each layer the mean over its forwards of a measure of its heights."""
        return [torch.stack([measure(h) for h in forwards]).mean() for forwards in self.seen.values()]


class _Heard:
    """A neuron whose heights are written down."""

    def __init__(self, neuron: Neuron) -> None:
        self._neuron = neuron
        self.heights: list[Tensor] = []

    def run(self, x: Tensor, fire: Fire, *, through_time: bool = True, through_reset: bool = False) -> Tensor:
        def heard(height: Tensor, step: int) -> Tensor:
            self.heights.append(height)
            return fire(height, step)

        return self._neuron.run(x, heard, through_time=through_time, through_reset=through_reset)


class Currents:
    """A rule that keeps the neuron and the input currents (T,B,*), with graph, of the spiking layer that ran last.

    In the networks of `models/` that is the one before the read-out: a block runs its shortcut before its branch.
    """

    neuron: Neuron
    last: Tensor

    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    def __call__(self, neuron: Neuron, currents: Tensor, site: str) -> Tensor:
        self.neuron, self.last = neuron, currents
        return self._rule(neuron, currents, site)
