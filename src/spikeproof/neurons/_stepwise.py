"""The scan over time that every neuron with one membrane potential shares."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from spikeproof import native
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.tensors import heaviside
from spikeproof.types import Fire

__all__ = ["Stepwise"]


class Stepwise(nn.Module, ABC):
    """Charge, fire, reset, once per time step, starting at rest in every call.

    A module only so that a learnable constant (PLIF) has its place in the state dict: there is no state in it, and
    `run` is called by a rule, never `forward`.

    v_threshold: fires where the membrane is at or above it. v_reset: the potential after a spike and at rest; None is
    the soft reset, which subtracts v_threshold and rests at 0.
    """

    def __init__(self, *, v_threshold: float = 1.0, v_reset: float | None = 0.0) -> None:
        super().__init__()
        if not 0 < v_threshold < math.inf or (v_reset is not None and not -math.inf < v_reset < v_threshold):
            raise UsageError(
                "v_threshold > 0 and v_reset below it",
                f"v_threshold={v_threshold}, v_reset={v_reset}",
                mend="a neuron that rests at or above its threshold fires for ever; use for example 1.0 and 0.0",
            )
        self.v_threshold = v_threshold
        self.v_reset = v_reset

    @property
    def v_rest(self) -> float:
        """Where the membrane starts."""
        return 0.0 if self.v_reset is None else self.v_reset

    @abstractmethod
    def charge(self, v: Tensor, x: Tensor) -> Tensor:
        """Membrane after the input current x, before the spike; shapes (B,*)."""

    @abstractmethod
    def gains(self) -> tuple[float, float]:
        """(du/dv, du/dx) of `charge`, which is linear in both: the leak kept per step, and the weight of the input."""

    def membrane(self) -> native.Membrane | None:
        """The same physics as a description that the scan in C knows; None where it does not know them."""
        return None

    def known(self) -> native.Membrane | None:
        """`membrane`, unless it is inherited: a subclass may have changed the physics without describing them."""
        return self.membrane() if "membrane" in vars(type(self)) else None

    def learns(self) -> bool:
        """Whether one of the neuron's own constants wants a gradient."""
        return any(p.requires_grad for p in self.parameters())

    def settle(self, v: Tensor, spikes: Tensor) -> Tensor:
        """Membrane after the spike, reset; shapes (B,*). Not named `reset`, which SpikingJelly calls on any module."""
        if self.v_reset is None:
            return v - self.v_threshold * spikes
        kept = (1.0 - spikes) * v
        return kept + self.v_reset * spikes if self.v_reset else kept

    def run(self, x: Tensor, fire: Fire, *, through_time: bool = True, through_reset: bool = False) -> Tensor:
        """Input currents (T,B,*) -> spikes (T,B,*), from rest.

        through_time: whether gradients pass from one step to the next; through_reset: whether they pass through the
        reset's spike (False is `detach_reset=True` of SpikingJelly). Neither changes a value.
        Raises SpikeproofError where a current was not finite: a comparison swallows NaN (NaN >= v is False), but the
        membrane remembers it to the end.
        """
        v = torch.full_like(x[0], self.v_rest)
        spikes = []
        for t, current in enumerate(x):
            v = self.charge(v if through_time else v.detach(), current)
            s = fire(v - self.v_threshold, t)
            spikes.append(s)
            v = self.settle(v, s if through_reset else s.detach())
        self._check(bool(torch.isfinite(v).all()))
        return torch.stack(spikes)

    def spikes(self, x: Tensor) -> Tensor:
        """`run` without a graph: currents (T,B,*) -> spikes (T,B,*), bit by bit the same; in C where that is there.

        Raises as `run` does.
        """
        if native.usable(x) and (known := self.known()) is not None:
            spikes, finite = native.scan(known, x)
            self._check(finite)
            return spikes
        return self.run(x.detach(), lambda height, step: heaviside(height))

    def heights(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and beside the spikes how far each membrane was above the threshold, (T,B,*)."""
        if x.device.type == "cpu" and native.usable(x) and (known := self.known()) is not None:
            spikes, found, finite = native.heights(known, x)
            self._check(finite)
            return spikes, found
        seen: list[Tensor] = []

        def fire(height: Tensor, step: int) -> Tensor:
            seen.append(height)
            return heaviside(height)

        return self.run(x.detach(), fire), torch.stack(seen)

    def _check(self, finite: bool) -> None:
        if not finite:
            raise SpikeproofError(
                "finite input currents in a spiking layer",
                f"a membrane that ends at NaN or infinity in {self}",
                mend="look for NaN in the images or the weights, or for a learning rate that diverged",
            )

    def extra_repr(self) -> str:
        return f"v_threshold={self.v_threshold}, v_reset={self.v_reset}"
