"""NIR graphs as victims: against explicit Euler of NIR's own equations in plain Python, and against SpikingJelly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import digits
from torch import Tensor

import spikeproof
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.interop.nir_graph import from_nir
from spikeproof.rules.atan import ATan
from spikeproof.tensors import exact, image_keys

nir = pytest.importorskip("nir", reason="the package nir is not installed here")

DT, T = 2.0**-10, 6
X, Y, IDS = digits(6)
KEYS = image_keys(0, IDS)


def eighths(*shape: int, seed: int = 0) -> Any:
    """Multiples of 1/8, so that float32 makes no rounding error."""
    return np.random.default_rng(seed).integers(-8, 12, shape) / 8.0


def neuron(kind: str, shape: tuple[int, ...], **values: float) -> Any:
    return getattr(nir, kind)(**{name: np.full(shape, value) for name, value in values.items()})


def graph(*middle: Any) -> Any:
    """Flatten, 64 -> 12, a neuron, 12 -> 10."""
    return nir.NIRGraph.from_list(
        nir.Input(input_type=np.array([1, 8, 8])), nir.Flatten({"input": np.array([1, 8, 8])}, 0, -1),
        nir.Affine(eighths(12, 64) / 8, eighths(12, seed=1)), *middle, nir.Linear(eighths(10, 12, seed=2)),
    )  # fmt: skip


def euler(node: Any, currents: list[list[float]], dt: float) -> list[list[float]]:
    """Spikes (T,n) of n neurons: v' by the docstring of the node, one explicit step of dt, then threshold and reset."""
    v = [float(node.v_reset[i]) for i in range(len(currents[0]))]
    out = []
    for now in currents:
        spikes = []
        for i, x in enumerate(now):
            if type(node).__name__ == "IF":
                v[i] += dt * float(node.r[i]) * x
            else:
                v[i] += dt / float(node.tau[i]) * (float(node.v_leak[i]) - v[i] + float(node.r[i]) * x)
            spikes.append(1.0 if v[i] > float(node.v_threshold[i]) else 0.0)
            if spikes[-1]:
                v[i] = float(node.v_reset[i])
        out.append(spikes)
    return out


NODES = {
    "if": ("IF", {"r": 1 / DT, "v_threshold": 1.0, "v_reset": 0.0}),
    "if with a gain": ("IF", {"r": 0.5 / DT, "v_threshold": 0.5, "v_reset": -0.25}),
    "lif": ("LIF", {"tau": 2 * DT, "r": 1.0, "v_leak": 0.0, "v_threshold": 0.5, "v_reset": 0.0}),
    "lif, not decayed": ("LIF", {"tau": 2 * DT, "r": 2.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0}),
    "lif with a gain": ("LIF", {"tau": 4 * DT, "r": 3.0, "v_leak": -0.5, "v_threshold": 0.5, "v_reset": -0.5}),
}


@pytest.mark.parametrize("name", NODES)
def test_a_neuron_is_nirs_own_equation(name: str) -> None:
    """Everything is a binary fraction, so equal means equal; a membrane exactly at its threshold is among them."""
    kind, values = NODES[name]
    node = neuron(kind, (12,), **values)
    made = graph(node)
    logits = from_nir(made, steps=T, dt=DT)(X, exact, KEYS).detach()
    weight, bias, out = (made.nodes[n] for n in ("affine", "affine", "linear"))
    for image, found in zip(X.double().flatten(1).numpy(), logits.double().numpy(), strict=True):
        current = (weight.weight @ image + bias.bias).tolist()
        spikes = np.array(euler(node, [current] * T, DT))
        assert np.abs(spikes @ out.weight.T).max() > 0
        assert np.abs((spikes @ out.weight.T).mean(0) - found).max() <= 1e-6


def test_at_its_threshold_a_membrane_is_silent_unless_said_otherwise() -> None:
    ones = nir.NIRGraph.from_list(
        nir.Input(input_type=np.array([1, 8, 8])), nir.Flatten({"input": np.array([1, 8, 8])}, 0, -1),
        nir.Affine(np.zeros((3, 64)), np.ones(3)), neuron("IF", (3,), r=1 / DT, v_threshold=1.0, v_reset=0.0),
    )  # fmt: skip
    assert torch.equal(from_nir(ones, steps=4, dt=DT)(X, exact, KEYS), torch.full((6, 3), 0.5))
    fires = from_nir(ones, steps=4, dt=DT, at_threshold="fires")
    assert torch.equal(fires(X, exact, KEYS), torch.ones(6, 3))


def test_layers_without_a_memory() -> None:
    weight, bias = eighths(4, 1, 3, 3), eighths(4, seed=3)
    flat = np.array([4, 3, 3])
    made = nir.NIRGraph.from_list(
        nir.Input(input_type=np.array([1, 8, 8])), nir.Conv2d((8, 8), weight, 1, 1, 1, 1, bias),
        nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])), nir.Scale(np.full((4, 4, 4), 0.5)),
        nir.SumPool2d(np.array([2, 2]), np.array([1, 1]), np.array([0, 0])), nir.Flatten({"input": flat}, 0, -1),
        type_check=False,
    )  # fmt: skip
    x = torch.nn.functional.conv2d(X, torch.tensor(weight).float(), torch.tensor(bias).float(), padding=1)
    x = torch.nn.functional.avg_pool2d(0.5 * torch.nn.functional.avg_pool2d(x, 2), 2, 1) * 4
    found = from_nir(made, steps=2, dt=DT)(X, exact, KEYS)
    assert torch.allclose(found, x.flatten(1), atol=1e-6)
    assert x.std() > 0


def test_what_cannot_be_stated_exactly_is_refused_by_its_name() -> None:
    like = {"v_threshold": 1.0, "v_reset": 0.0}
    cuba = neuron("CubaLIF", (12,), tau_syn=DT, tau_mem=2 * DT, r=1.0, v_leak=0.0, **like)
    uneven = nir.IF(np.linspace(1, 2, 12) / DT, np.ones(12), np.zeros(12))
    for node, message in (
        (cuba, "CubaLIF at 'cubalif'"),
        (uneven, "one r for all neurons of 'if'"),
        (neuron("LIF", (12,), tau=2 * DT, r=1.0, v_leak=0.5, **like), "v_leak = v_reset in 'lif'"),
        (neuron("LIF", (12,), tau=DT, r=1.0, v_leak=0.0, **like), "tau above dt"),
        (nir.Threshold(np.ones(12)), "Threshold at 'threshold'"),
    ):
        with pytest.raises(SpikeproofError, match=message):
            from_nir(graph(node), steps=T, dt=DT)
    recurrent = graph(neuron("IF", (12,), r=1 / DT, **like))
    recurrent.edges.append(("if", "if"))
    with pytest.raises(SpikeproofError, match="several edges at the node 'if'"):
        from_nir(recurrent, steps=T)
    flat = nir.NIRGraph.from_list(nir.Affine(eighths(12, 64), eighths(12)), neuron("IF", (12,), r=1.0, **like))
    with pytest.raises(SpikeproofError, match=r"images \(C,H,W\)"):
        from_nir(flat, steps=T)
    with pytest.raises(UsageError, match="dt > 0"):
        from_nir(flat, steps=T, dt=0.0)


@pytest.mark.parametrize("kind", ["IFNode", "LIFNode", "LIFNode, not decayed", "ParametricLIFNode"])
def test_a_network_exported_by_spikingjelly(kind: str, tmp_path: Path) -> None:
    """Its logits before the export, from a file; then it is evaluated."""
    try:
        from peers.wrapped import trained
        from spikingjelly.activation_based import functional, layer, nir_exchange, surrogate
        from spikingjelly.activation_based import neuron as nodes
    except Exception as error:
        pytest.skip(f"SpikingJelly's exchange with NIR does not import here: {error!r}")
    options = {"decay_input": False} if "not decayed" in kind else {}

    def make() -> Any:
        node = getattr(nodes, kind.split(",")[0])(surrogate_function=surrogate.ATan(), detach_reset=True, **options)
        made = torch.nn.Sequential(
            layer.Conv2d(1, 4, 3, padding=1), node, layer.AvgPool2d(2), layer.Flatten(), layer.Linear(64, 10)
        )
        functional.set_step_mode(made, "m")
        return made

    def over_steps(model: Any, x: Tensor) -> Tensor:
        functional.reset_net(model)
        return model(x.unsqueeze(0).repeat(T, 1, 1, 1, 1)).mean(0)  # type: ignore[no-any-return]

    model = trained(make, over_steps)
    functional.reset_net(model)
    exported = nir_exchange.export_to_nir(model, X.unsqueeze(0).repeat(T, 1, 1, 1, 1))
    nir.write(tmp_path / "net.nir", exported)
    victim = from_nir(tmp_path / "net.nir", steps=T, at_threshold="fires")
    expected = over_steps(model, X)
    assert (victim(X, exact, KEYS) - expected).abs().max() <= 1e-6 * expected.abs().max().clamp(min=1)
    assert (expected.argmax(1) == Y).double().mean() > 0.4
    found = spikeproof.evaluate(victim, X, Y, ids=IDS, tier="smoke", eps=0.2, rule=ATan())
    assert found.verdict.word != "not evaluated"
