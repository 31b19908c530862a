"""SpikingJelly 2: IF, LIF and parametric LIF nodes become neurons of this package; other nodes keep their own code.

The spikes of those are found where their surrogate makes them, as in a network without a framework. In eval mode three
nodes have no surrogate at all: the online LIFs, which are LIFs then, and the complementary LIF.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from spikeproof.errors import SpikeproofError
from spikeproof.interop.frameworks import Framework, StepMode
from spikeproof.interop.sites import AllSteps, Heights, OneStep, Switch, keep, strict
from spikeproof.neurons import Stepwise
from spikeproof.neurons.if_ import IF
from spikeproof.neurons.lif import LIF
from spikeproof.neurons.plif import PLIF

__all__ = ["SpikingJelly"]

_OLD = ("neuronal_charge", "neuronal_fire", "neuronal_reset")
"""How SpikingJelly before 2 was extended; 2 ignores these methods without a word."""


_ONLINE = ("OTTTLIFNode", "SLTTLIFNode")

_INERT = ("spikingjelly:Dropout", "spikingjelly:Dropout2d")


class SpikingJelly(Framework):
    """Spiking nodes; they and some layers have a memory, and they and most layers have a mode of steps."""

    title, versions = "SpikingJelly", "2"

    def is_neuron(self, module: nn.Module) -> bool:
        return any(cls.__module__.startswith("spikingjelly.activation_based.neuron") for cls in type(module).__mro__)

    def site(self, name: str, node: Any, switch: Switch, *, folded: bool) -> nn.Module | None:
        """A neuron of this package with the node's constants; None where its dynamics are not known to it."""
        _refuse_old(name, node)
        neuron = _neuron(node)
        if _home(type(node)) == "spikingjelly:ComplementaryLIFNode":
            return _complementary(name, node, switch)
        if neuron is None:
            return None
        keep(neuron, own=node.surrogate_function, detach_reset=node.detach_reset)
        if node.step_mode == "m":
            return AllSteps(name, neuron, switch, folded=False)
        return AllSteps(name, neuron, switch, folded=True) if folded else OneStep(name, neuron, switch)

    def rest(self, network: nn.Module) -> None:
        for module in network.modules():
            if "spikingjelly:MemoryModule" in _bases(module):
                module.reset()  # type: ignore[operator]

    def step_mode(self, network: nn.Module) -> StepMode | None:
        timed = [m for m in network.modules() if "spikingjelly:StepModule" in _bases(m)]
        # Containers have their mode by their class alone, until somebody sets it.
        modes = {getattr(m, "step_mode", "m" if "spikingjelly:MultiStepModule" in _bases(m) else "s") for m in timed}
        return None if not modes else "m" if "m" in modes else "s"

    def foldable(self, network: nn.Module) -> bool:
        """Whether all that has a memory is a known node of one step."""
        memories = [m for m in network.modules() if "spikingjelly:MemoryModule" in _bases(m)]
        # Dropout keeps its mask, and has none in eval mode.
        keepers = [m for m in memories if _home(type(m)) not in _INERT]
        return bool(keepers) and all(
            self.is_neuron(m) and _neuron(m) is not None and m.step_mode == "s" for m in keepers
        )

    def doubt(self, network: nn.Module) -> tuple[str, str] | None:
        """Both modes of steps in one network, without a container that lets them be."""
        modes = {m.step_mode for m in network.modules() if getattr(m, "step_mode", None) in ("m", "s")}
        if len(modes) > 1 and not any("Container" in type(m).__name__ for m in network.modules()):
            return "modules of step mode 's' beside others of 'm'", "functional.set_step_mode(net, 'm'), or 's'"
        return None


def _home(cls: type) -> str:
    return f"{cls.__module__.split('.')[0]}:{cls.__name__}"


def _bases(module: nn.Module) -> list[str]:
    return [_home(cls) for cls in type(module).__mro__]


def _neuron(node: Any) -> Any:
    kind = _home(type(node)).removeprefix("spikingjelly:")
    if kind not in ("IFNode", "LIFNode", "ParametricLIFNode", *_ONLINE) or node._neuron_precision is not None:
        return None
    if not 0 < node.v_threshold < float("inf"):  # SpikingJelly's idiom for a neuron that is read, not fired
        return None
    usual = {"v_threshold": node.v_threshold, "v_reset": node.v_reset}
    neuron: Stepwise
    if kind == "IFNode":
        neuron = IF(**usual)
    elif kind != "ParametricLIFNode":
        neuron = LIF(tau=node.tau, decay_input=node.decay_input, **usual)
    else:
        neuron = PLIF(decay_input=node.decay_input, **usual)
        neuron.w = node.w
    return neuron


def _complementary(name: str, node: Any, switch: Switch) -> nn.Module:
    """The node itself, with a site as its surrogate, which it takes in eval mode too where that says it is no spike."""
    own = node.surrogate_function
    node.surrogate_function = Heights(name, own, switch, strict=strict(own, name), detach_reset=True, either=True)
    keep(node.surrogate_function, spiking=False)
    return node  # type: ignore[no-any-return]


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
