"""Faults of frameworks that are known by version, on stand-ins under their names."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

import spikeproof
from spikeproof.errors import SpikeproofError

X = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def node(surrogate: str, backend: str, kind: str = "LIFNode") -> nn.Module:
    """One of SpikingJelly before 2, as far as its names go."""

    class Node(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backend, self.surrogate_function = backend, type(surrogate, (nn.Module,), {})()

        def forward(self, x: Tensor) -> Tensor:
            return (x > 0.1).to(x) + x - x.detach()

    Node.__module__, Node.__name__ = "spikingjelly.activation_based.neuron", kind
    return Node()


def network(*of: str) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), node(*of), nn.Linear(8, 3)).eval()


@pytest.mark.parametrize("surrogate", ["Sigmoid", "ATan", "SoftSign", "Erf"])
@pytest.mark.parametrize("backend", ["torch", "triton"])
@pytest.mark.parametrize("found", ["0.0.0.0.14", "1.2"])
def test_a_framework_that_is_too_old_is_named_with_its_fault(
    found: str, backend: str, surrogate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spikeproof.interop._faults.version", lambda package: found)
    model = network(surrogate, backend)
    with pytest.raises(SpikeproofError, match="SpikingJelly 2 or later") as refused:
        spikeproof.wrap(model, X)
    told = spikeproof.check(model, X)["framework"]
    faulty = backend == "triton" and surrogate not in ("Sigmoid", "ATan")
    for says in (refused.value.says, told.says):
        assert re.search(rf"got {re.escape(found)}($|,)", says)
        assert says.endswith(f"Sigmoid and ATan alone: '2' has {surrogate}") == faulty
        assert ("Triton" in says) == faulty
    assert told.mend.startswith("pip install 'spikingjelly>=2'")


def test_a_known_version_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spikeproof.interop._faults.version", lambda package: "2.0.0")
    found = spikeproof.check(network("SoftSign", "triton", "NodeOfSomebody"), X)
    assert found["framework"].verdict == "ok"
