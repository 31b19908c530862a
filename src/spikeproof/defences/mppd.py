"""MPPD: a penalty on what a perturbation does to the membranes of the last spiking layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from spikeproof.defences._watched import Currents
from spikeproof.errors import UsageError
from spikeproof.types import Craft, Knob, Neuron, Rule, VictimLike, Weighing

__all__ = ["MPPD"]


@dataclass(frozen=True)
class MPPD:
    """CE(f(x), y) / 2 + CE(f(x'), y) / 2 + weight * mean |e|^power, x' from `training_attack`.

    e is the difference of the input currents at x' and at x, through the last spiking layer's own charge without
    spikes and resets: e[t] = lambda e[t-1] + I'[t] - I[t] for DLIF, whose learned weights p[t] have no part in it, in
    the released code too. Half of the cross-entropy is adversarial training. Ding et al., "Robust Stable Spiking Neural
    Networks" (ICML 2024), power 2, weight 1, with DLIF neurons and R-FGSM within 4/255; power 1 is MPPD-TV-l1 (ICLR
    2026), weight 2.5 to 3. The clean currents are constants, as in the released code, whose second way to x', Gaussian
    noise, is not offered. docs/defences.md has the numbers that it is held against.
    """

    KNOB: ClassVar[Knob] = Knob("weight", (0.1, 0.3, 1.0, 3.0, 10.0))

    weight: float = 1.0
    power: Literal[1, 2] = 2

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf or self.power not in (1, 2):
            raise UsageError("a finite weight >= 0 and power 1 or 2", f"weight={self.weight}, power={self.power}")

    def __call__(self, victim: VictimLike, x: Tensor, y: Tensor, rule: Rule, keys: Tensor, craft: Craft) -> Tensor:
        attacked, seen = craft(x, y, keys), Currents(rule)
        clean, currents = victim(x, seen, keys), seen.last.detach()
        moved = victim(attacked, seen, keys)
        e = _membrane(seen.neuron, seen.last - currents)
        loss = F.cross_entropy(clean, y) / 2 + F.cross_entropy(moved, y) / 2
        return loss + self.weight * (e.square() if self.power == 2 else e.abs()).mean()


def _membrane(neuron: Neuron, currents: Tensor) -> Tensor:
    """The membrane (T,B,*), less that without input, of a neuron that never fires: linear in the currents."""
    if isinstance(neuron, Weighing):
        neuron = neuron.even()
    return _silent(neuron, currents) - _silent(neuron, torch.zeros_like(currents))


def _silent(neuron: Neuron, currents: Tensor) -> Tensor:
    heights: list[Tensor] = []

    def fire(height: Tensor, step: int) -> Tensor:
        heights.append(height)
        return torch.zeros_like(height)

    neuron.run(currents, fire)
    return torch.stack(heights)
