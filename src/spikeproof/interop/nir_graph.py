"""NIR, the neuromorphic intermediate representation, as a victim: chains of nodes whose Euler steps are ours exactly.

NIR states differential equations, so a step `dt` must be told: that of the program that wrote the graph. Explicit Euler
turns them into the neurons of this package, for a membrane that starts at v_reset:

| node | Euler step of NIR | here |
| --- | --- | --- |
| IF | v += dt r x | gain dt r, `IF` |
| LIF | v += (dt / tau) (v_leak - v + r x) | v_leak = v_reset; gain r, `LIF(tau / dt)`; r = tau / dt: not decayed |
| Affine, Linear, Conv2d, AvgPool2d, SumPool2d, Flatten, Scale | y = f(x) at each step | the layer of torch |

Everything else is refused by the node's name: a synapse with a memory of its own (CubaLIF), integrators, delays,
subgraphs, branches, recurrent edges, constants that differ between the neurons of a node. The logits are the mean over
steps of what reaches the output. `nir` itself is imported only where a file is read.

Source: Pedersen et al., "Neuromorphic intermediate representation", Nature Communications 15, 8122 (2024).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikeproof.encoders.direct import Direct
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.neurons import Stepwise
from spikeproof.neurons.if_ import IF
from spikeproof.neurons.lif import LIF
from spikeproof.types import Encoder, Rule
from spikeproof.victims.victim import Victim

__all__ = ["from_nir"]

Tie = Literal["silent", "fires"]


def from_nir(
    graph: Any, *, steps: int, dt: float = 1e-4, at_threshold: Tie = "silent", encoder: Encoder | None = None
) -> Victim:
    """A victim of a nir.NIRGraph, or of the file of one, in eval mode.

    steps: how many the encoder (Direct where none is given) makes of an image; dt: seconds of a step, 1e-4 in the
    exports of SpikingJelly and snnTorch. at_threshold: NIR fires above the threshold; a program that fires at it, as
    SpikingJelly does, exports the same node, and 'fires' gives its spikes. Raises SpikeproofError, with the node's
    name, for what cannot be stated exactly, and where the input is not (C,H,W).
    """
    if isinstance(graph, str | Path):
        try:
            import nir
        except ImportError as error:
            raise UsageError("the package nir, to read a file", error, mend="pip install nir") from error
        graph = nir.read(graph)
    if not dt > 0:
        raise UsageError("dt > 0 seconds", dt)
    if at_threshold not in ("silent", "fires"):
        raise UsageError("at_threshold", repr(at_threshold), valid=["silent", "fires"])
    names = _chain(graph)
    shape = tuple(int(size) for size in np.ravel(graph.nodes[names[0]].input_type["input"]))
    if len(shape) != 3:
        raise SpikeproofError(
            f"images (C,H,W) at the node {names[0]!r}", shape, mend="begin the graph with a Flatten of (C,H,W)"
        )
    body = _Body([(name, _layer(name, graph.nodes[name], dt, at_threshold)) for name in names[1:-1]], shape)
    return Victim(body, encoder or Direct(), steps).eval()


def _chain(graph: Any) -> list[str]:
    """The nodes from the input to the output; refuses everything that is no chain."""
    follows: dict[str, str] = {}
    comes: dict[str, str] = {}
    for source, target in graph.edges:
        for known, node in ((follows, source), (comes, target)):
            if node in known:
                raise SpikeproofError("a chain of nodes", f"several edges at the node {node!r}")
        follows[source], comes[target] = target, source
    starts = [name for name in graph.nodes if name not in comes]
    chain = starts[:1]
    while chain and chain[-1] in follows:
        chain.append(follows[chain[-1]])
    left = sorted(set(graph.nodes) - set(chain))
    if left or len(chain) < 3 or (_kind(graph.nodes[chain[0]]), _kind(graph.nodes[chain[-1]])) != ("Input", "Output"):
        got = f"the nodes {left} apart from it" if left else f"{chain}"
        raise SpikeproofError("one chain of nodes from an Input to an Output", got)
    return chain


def _kind(node: Any) -> str:
    return type(node).__name__


def _layer(name: str, node: Any, dt: float, tie: Tie) -> nn.Module:
    kind = _kind(node)
    if kind in ("Linear", "Affine") and np.ndim(node.weight) == 2:
        bias = _tensor(node.bias) if kind == "Affine" else None
        linear = nn.Linear(node.weight.shape[1], node.weight.shape[0], bias=bias is not None)
        return _filled(linear, node.weight, bias)
    if kind == "Conv2d":
        out, per_group, *kernel = node.weight.shape
        padding = node.padding if isinstance(node.padding, str) else _pair(node.padding)
        conv = nn.Conv2d(
            per_group * int(node.groups), out, tuple(kernel), _pair(node.stride), padding, _pair(node.dilation),
            int(node.groups),
        )  # fmt: skip
        return _filled(conv, node.weight, _tensor(node.bias))
    if kind in ("AvgPool2d", "SumPool2d"):
        window = [_pair(getattr(node, field)) for field in ("kernel_size", "stride", "padding")]
        return _Pool(*window, divisor=1 if kind == "SumPool2d" else None)
    if kind == "Flatten" and int(node.start_dim) == 0 and int(node.end_dim) in (-1, len(node.input_type["input"]) - 1):
        return nn.Flatten()
    if kind == "Scale":
        return _Scale(_tensor(node.scale))
    if kind in ("IF", "LIF"):
        return _spiking(name, node, dt, tie)
    valid = ["Linear", "Affine", "Conv2d", "AvgPool2d", "SumPool2d", "Flatten (all of an image)", "Scale", "IF", "LIF"]
    raise SpikeproofError("a NIR node that is known here", f"{kind} at {name!r}", valid=valid)


def _spiking(name: str, node: Any, dt: float, tie: Tie) -> nn.Module:
    def one(field: str) -> float:
        values = np.unique(np.asarray(getattr(node, field), dtype=np.float64))
        if len(values) != 1 or not math.isfinite(values[0]):
            raise SpikeproofError(f"one {field} for all neurons of {name!r}", f"{len(values)} values")
        return float(values[0])

    v_threshold, v_reset = one("v_threshold"), one("v_reset")
    if tie == "silent":  # v > threshold is v >= the next number of float32
        v_threshold = float(np.nextafter(np.float32(v_threshold), np.float32(np.inf)))
    if _kind(node) == "IF":
        return _Spiking(name, IF(v_threshold=v_threshold, v_reset=v_reset), _plain(dt * one("r")))
    tau, r, v_leak = _plain(one("tau") / dt), one("r"), one("v_leak")
    if v_leak != v_reset:
        mend = "a membrane that leaks to where it is reset"
        raise SpikeproofError(f"v_leak = v_reset in {name!r}", f"{v_leak} and {v_reset}", mend=mend)
    if not tau > 1:
        raise SpikeproofError(f"tau above dt = {dt} in {name!r}", one("tau"), mend="the dt of the export")
    decayed = not math.isclose(r, tau, rel_tol=1e-6)
    neuron = LIF(tau=tau, decay_input=decayed, v_threshold=v_threshold, v_reset=v_reset)
    return _Spiking(name, neuron, r if decayed else 1.0)


def _plain(value: float) -> float:
    """Without the last digits, in which a division of two decimal fractions errs."""
    return float(f"{value:.12g}")


def _pair(value: Any) -> tuple[int, int]:
    first, last = np.broadcast_to(np.asarray(value, dtype=int).ravel(), 2)
    return int(first), int(last)


def _tensor(values: Any) -> Tensor:
    return torch.as_tensor(np.array(values, dtype=np.float32))


def _filled(layer: nn.Linear | nn.Conv2d, weight: Any, bias: Tensor | None) -> nn.Module:
    with torch.no_grad():
        layer.weight.copy_(_tensor(weight))
        if bias is not None and layer.bias is not None:
            layer.bias.copy_(bias)
    return layer


class _Pool(nn.Module):
    """Mean, or with divisor 1 sum, over windows."""

    def __init__(
        self, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], *, divisor: int | None
    ) -> None:
        super().__init__()
        self.window, self.divisor = (kernel, stride, padding), divisor

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride, padding = self.window
        return F.avg_pool2d(x, kernel, stride, padding, divisor_override=self.divisor)


class _Scale(nn.Module):
    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(scale)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class _Spiking(nn.Module):
    """A neuron and the gain of its input; a rule runs it."""

    def __init__(self, name: str, neuron: Stepwise, gain: float) -> None:
        super().__init__()
        self.name, self.neuron, self.gain = name, neuron, gain


class _Body(nn.Module):
    """Layers without a memory see all steps as one batch, neurons see them in time."""

    def __init__(self, layers: list[tuple[str, nn.Module]], shape: tuple[int, ...]) -> None:
        super().__init__()
        self.in_channels, self.shape = shape[0], shape
        self.names = [name for name, _ in layers]
        self.layers = nn.ModuleList(layer for _, layer in layers)
        with torch.no_grad():
            self.classes = self.classify(torch.zeros(1, 1, *shape), lambda neuron, x, site: x).shape[1]

    def classify(self, z: Tensor, rule: Rule) -> Tensor:
        """(T,B,C,H,W) -> logits (B,K), the mean over steps."""
        steps, size = z.shape[:2]
        if tuple(z.shape[2:]) != self.shape:
            raise SpikeproofError(f"images of the graph's shape {self.shape}", tuple(z.shape[2:]))
        x = z.flatten(0, 1)
        for name, layer in zip(self.names, self.layers, strict=True):
            if isinstance(layer, _Spiking):
                currents = x.view(steps, size, *x.shape[1:])
                currents = currents if layer.gain == 1.0 else layer.gain * currents
                x = rule(layer.neuron, currents, name).flatten(0, 1)
            else:
                x = layer(x)
        if x.dim() != 2:
            raise SpikeproofError("logits (B,K) at the output", tuple(x.shape[1:]), mend="flatten before it")
        return x.view(steps, size, -1).mean(0)
