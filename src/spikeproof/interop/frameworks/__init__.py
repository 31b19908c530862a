"""What is known of other frameworks, one file each: the folder is the registry, and none of them is imported.

A file bears the first word of the modules in which its framework's classes live ('norse' for norse.torch.LIFCell). Its
one public name is a class that derives from `Framework` and is made without arguments.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import abstractmethod
from typing import Any, Literal, Protocol

from torch import nn

from spikeproof.interop.sites import Switch

__all__ = ["Framework", "StepMode", "frameworks_of", "known_frameworks", "names", "step_mode_of"]

StepMode = Literal["m", "s"]
"""All steps (T,B,*) at once, or one step (B,*) a call."""


class Framework(Protocol):
    """How networks of a framework are rewired, rested and fed.

    Neurons and sites are all that every framework has. The rest has a default, which is right for modules that keep
    nothing between calls and have no modes of steps.
    """

    title: str
    """Its own name."""
    versions: str
    """Those that are known, such as '1.1'."""

    @abstractmethod
    def is_neuron(self, module: nn.Module) -> bool:
        """Whether a module fires: one of the framework's neurons, or one derived from them."""

    @abstractmethod
    def site(self, name: str, neuron: Any, switch: Switch, *, folded: bool) -> nn.Module | None:
        """What stands in for a neuron of this name, so that the switch's rule makes its spikes.

        It may be the neuron itself, changed: it is one of a copy. folded: it will get all steps as one batch (T B,*).
        None where its dynamics are not known, so that it stays as it is. Raises SpikeproofError, with the name, where
        its forward is not what it seems.
        """

    def rest(self, network: nn.Module) -> None:
        """Puts back what modules of a network remember to where it starts."""
        return

    def registries(self) -> list[list[Any]]:
        """Lists in which the framework registers modules of all networks, where a reset walks them."""
        return []

    def step_mode(self, network: nn.Module) -> StepMode | None:
        """'m' where a module takes all steps at once, 's' where all that have a mode take one; None without any."""
        return None

    def foldable(self, network: nn.Module) -> bool:
        """Whether a network of one step a call may see all steps as one batch, but for its neurons with a site."""
        return False

    def doubt(self, network: nn.Module) -> tuple[str, str] | None:
        """What its users often get wrong and no call shows, with the mend; None where there is nothing to say."""
        return None


def names() -> list[str]:
    """The first words of the modules of all frameworks that are known, sorted."""
    return sorted(file.name for file in pkgutil.iter_modules(__path__))


def _framework(name: str) -> Framework:
    file = importlib.import_module(f"{__name__}.{name}")
    framework: Framework = getattr(file, file.__all__[0])()
    return framework


def known_frameworks() -> list[Framework]:
    """One of each, in the order of their names."""
    return [_framework(name) for name in names()]


def frameworks_of(network: nn.Module) -> list[Framework]:
    """Those that a module of the network, or a class it derives from, comes from."""
    words = {cls.__module__.split(".")[0] for module in network.modules() for cls in type(module).__mro__}
    return [_framework(name) for name in names() if name in words]


def step_mode_of(network: nn.Module) -> StepMode | None:
    """How a network gets its steps, by the modes of its modules; None where none of them has one."""
    modes = {framework.step_mode(network) for framework in frameworks_of(network)}
    return "m" if "m" in modes else "s" if "s" in modes else None
