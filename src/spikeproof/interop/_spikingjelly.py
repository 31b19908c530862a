"""SpikingJelly 2: IF, LIF and parametric LIF nodes become neurons of this package; other nodes keep what they have."""

from __future__ import annotations

from typing import Any

from torch import nn

from spikeproof.errors import SpikeproofError
from spikeproof.interop._sites import Steps, Switch, Train, keep
from spikeproof.neurons import Stepwise
from spikeproof.neurons.if_ import IF
from spikeproof.neurons.lif import LIF
from spikeproof.neurons.plif import PLIF

__all__ = ["foldable", "is_neuron", "mode_of_steps", "rest", "site"]

_OLD = ("neuronal_charge", "neuronal_fire", "neuronal_reset")
"""How SpikingJelly before 2 was extended; 2 ignores these methods without a word."""


_INERT = ("spikingjelly:Dropout", "spikingjelly:Dropout2d")


def _home(cls: type) -> str:
    return f"{cls.__module__.split('.')[0]}:{cls.__name__}"


def _bases(module: nn.Module) -> list[str]:
    return [_home(cls) for cls in type(module).__mro__]


def is_neuron(module: nn.Module) -> bool:
    """Whether a module is a spiking node of SpikingJelly or derived from one."""
    return any(cls.__module__.startswith("spikingjelly.activation_based.neuron") for cls in type(module).__mro__)


def mode_of_steps(network: nn.Module) -> str | None:
    """'m' where a layer, node or container takes all steps at once, else 's'; None without any of them."""
    timed = [m for m in network.modules() if "spikingjelly:StepModule" in _bases(m)]
    # Containers have their mode by their class alone, until somebody sets it.
    modes = {getattr(m, "step_mode", "m" if "spikingjelly:MultiStepModule" in _bases(m) else "s") for m in timed}
    return max(modes, key=("s", "m").index, default=None)


def foldable(network: nn.Module) -> bool:
    """Whether all that has a memory is a known node of one step: then the rest may see all steps as one batch."""
    # Dropout keeps its mask, and has none in eval mode.
    keepers = [m for m in network.modules() if "spikingjelly:MemoryModule" in _bases(m) if _home(type(m)) not in _INERT]
    return bool(keepers) and all(is_neuron(m) and _neuron(m) is not None and m.step_mode == "s" for m in keepers)


def rest(network: nn.Module) -> None:
    """What still remembers is put back to where it starts."""
    for module in network.modules():
        if "spikingjelly:MemoryModule" in _bases(module):
            module.reset()  # type: ignore[operator]


def site(name: str, node: Any, switch: Switch, *, folded: bool) -> nn.Module | None:
    """The site for a node, or None where its dynamics are not known to this package."""
    _refuse_old(name, node)
    neuron = _neuron(node)
    if neuron is None:
        return None
    keep(neuron, own=node.surrogate_function, detach_reset=node.detach_reset)
    if node.step_mode == "m":
        return Train(name, neuron, switch, folded=False)
    return Train(name, neuron, switch, folded=True) if folded else Steps(name, neuron, switch)


def _neuron(node: Any) -> Any:
    kind = _home(type(node)).removeprefix("spikingjelly:")
    if kind not in ("IFNode", "LIFNode", "ParametricLIFNode") or node._neuron_precision is not None:
        return None
    if not 0 < node.v_threshold < float("inf"):  # SpikingJelly's idiom for a neuron that is read, not fired
        return None
    usual = {"v_threshold": node.v_threshold, "v_reset": node.v_reset}
    neuron: Stepwise
    if kind == "IFNode":
        neuron = IF(**usual)
    elif kind == "LIFNode":
        neuron = LIF(tau=node.tau, decay_input=node.decay_input, **usual)
    else:
        neuron = PLIF(decay_input=node.decay_input, **usual)
        neuron.w = node.w
    return neuron


def _refuse_old(name: str, node: nn.Module) -> None:
    bases = type(node).__mro__
    if "spikingjelly:SimpleBaseNode" in _bases(node) or "spikingjelly:BaseNode" not in _bases(node):
        return
    overridden = [m for m in _OLD if any(m in vars(cls) for cls in bases)]
    if overridden:
        raise SpikeproofError(
            f"a node of SpikingJelly 2 at {name!r}",
            f"{type(node).__name__}, whose {overridden[0]} SpikingJelly 2 never calls",
            mend="derive it from SimpleBaseNode, or write single_step_functional_forward",
        )
