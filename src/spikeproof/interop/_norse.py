"""Norse 1.1."""

from __future__ import annotations

from torch import nn

from spikeproof.interop._sites import Switch

__all__ = ["is_neuron", "rest", "site"]


def is_neuron(module: nn.Module) -> bool:
    return False


def site(name: str, neuron: nn.Module, switch: Switch, *, folded: bool) -> nn.Module | None:
    return None


def rest(network: nn.Module) -> None:
    pass
