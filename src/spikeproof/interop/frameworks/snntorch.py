"""snnTorch 1: its neurons keep their dynamics and their loop; their spike function asks the rule.

Every neuron that charges, resets and fires through `mem_reset` and `fire` of snnTorch's base class is rewired. It calls
its spike function twice a step, once for the reset of the step before, without a gradient; that one stays exact.
"""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor, nn

from spikeproof.interop.frameworks import Framework
from spikeproof.interop.sites import Heights, Switch, keep, strict

__all__ = ["SnnTorch"]


class SnnTorch(Framework):
    """Spiking neurons, whose membranes may stay in them between calls."""

    title, versions = "snnTorch", "1"

    def is_neuron(self, module: nn.Module) -> bool:
        return hasattr(module, "spike_grad") and any(c.__module__.startswith("snntorch.") for c in type(module).__mro__)

    def site(self, name: str, neuron: Any, switch: Switch, *, folded: bool) -> nn.Module | None:
        """The neuron itself, with a site as its spike function; None where it fires in a way of its own."""
        if any(not _from_snntorch(type(neuron), method) for method in ("fire", "mem_reset")):
            return None
        own = neuron.spike_grad
        silent = strict(own, name)
        neuron.spike_grad = Heights(name, own, switch, strict=silent, detach_reset=getattr(neuron, "reset_delay", True))
        keep(neuron, mem_reset=_Reset(neuron, silent))
        return neuron  # type: ignore[no-any-return]

    def registries(self) -> list[list[Any]]:
        """What `utils.reset` walks, whatever network it is given."""
        library = sys.modules.get("snntorch")
        return [] if library is None else [library.SpikingNeuron.instances]

    def rest(self, network: nn.Module) -> None:
        """Membranes that neurons keep between steps are put back to zero."""
        neurons: list[Any] = [module for module in network.modules() if self.is_neuron(module)]
        for neuron in neurons:
            if hasattr(neuron, "reset_mem"):
                neuron.reset_mem()


def _from_snntorch(cls: type, method: str) -> bool:
    return getattr(getattr(cls, method, None), "__module__", "") == "snntorch._neurons.neurons"


class _Reset:
    """The reset of the step before, as snnTorch has it: exact, and without a gradient."""

    def __init__(self, neuron: Any, strict: bool) -> None:
        self.neuron, self.strict = neuron, strict

    def __call__(self, mem: Tensor) -> Tensor:
        height = mem.detach() - self.neuron.threshold.detach()
        spikes: Tensor = (height > 0 if self.strict else height >= 0).to(mem.dtype)
        return spikes
