"""Small networks of digits as their owners write, train and call them: other frameworks', and plain torch.

Nothing here knows of spikeproof but for the images. Each network is made when asked for, and its framework imported
then. Those in plain torch stand in `tests/own_neurons.py`, which must be on the path.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikeproof.data.digits import Digits

__all__ = ["OWNED", "Owned", "trained"]

Logits = Callable[[nn.Module, Tensor], Tensor]
"""How its owner calls a network on images (N,1,8,8): logits (N,10), state and all."""


@dataclass(frozen=True)
class Owned:
    """make: an untrained network; logits: its owner's call of it, or of what `after` makes of it once it is trained.

    trains: the call in training, where that is another one. told: what `wrap` must be told of the call. batches and
    rate: of the training. package: the framework whose version is told; '' for plain torch.
    """

    make: Callable[[], nn.Module]
    logits: Logits
    package: str
    told: Mapping[str, Any] = field(default_factory=dict)
    batches: int = 60
    rate: float = 1e-2
    trains: Logits | None = None
    after: Callable[[nn.Module], nn.Module] = lambda network: network


def trained(owned: Owned, seed: int) -> nn.Module:
    """Batches of 32 digits by Adam on the cross-entropy of four times the logits, then eval mode."""
    data, logits = Digits().load("train"), owned.trains or owned.logits
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = owned.make()
        optimiser = torch.optim.Adam(network.parameters(), owned.rate)
        for start in range(0, 32 * owned.batches, 32):
            x, y, _ = data.at(torch.arange(start, start + 32) % len(data))
            optimiser.zero_grad()
            F.cross_entropy(4 * logits(network, x), y).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        network.zero_grad()
        return owned.after(network.eval()).eval()


def averaged(network: nn.Module, x: Tensor) -> Tensor:
    """The network makes its own time, and gives logits, or those of every step, alone or as the first of several."""
    out = network(x)
    out = out[0] if isinstance(out, tuple) else out
    return out.mean(0) if out.dim() == 3 else out  # type: ignore[no-any-return]


# SpikingJelly


def _reset_first(logits: Logits) -> Logits:
    """As SpikingJelly's users call a network: reset, then forward."""

    def called(network: nn.Module, x: Tensor) -> Tensor:
        from spikingjelly.activation_based import functional

        functional.reset_net(network)
        return logits(network, x)

    return called


def spikformer() -> Owned:
    """Patches of 4x4, one block of four heads."""
    from spikingjelly.activation_based.model.spikformer import Spikformer

    size = {"img_size_h": 8, "img_size_w": 8, "patch_size": 4, "embed_dims": 64, "num_heads": 4, "mlp_ratio": 2.0}
    make = partial(Spikformer, T=2, in_channels=1, num_classes=10, depths=1, **size)
    return Owned(make, _reset_first(averaged), "spikingjelly", batches=112, rate=5e-3)


def spike_driven_transformer() -> Owned:
    """Four stages, two of which pool, one block of four heads."""
    from spikingjelly.activation_based.model.spike_driven_transformer import SpikeDrivenTransformer

    size = {"embed_dims": 64, "num_heads": 4, "mlp_ratio": 2.0, "pooling_stat": "0011"}
    make = partial(SpikeDrivenTransformer, T=2, in_channels=1, num_classes=10, depths=1, **size)
    return Owned(make, _reset_first(averaged), "spikingjelly", batches=112, rate=5e-3)


def converted(steps: int = 16) -> Owned:
    """A small convolutional network with ReLU, trained, and converted to rates of IF nodes; one step a call."""
    from spikingjelly.activation_based import ann2snn

    def make() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
            nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10),
        )  # fmt: skip

    def after(network: nn.Module) -> nn.Module:
        x, y, _ = Digits().load("train").at(torch.arange(256))
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=64)
        with contextlib.redirect_stderr(io.StringIO()):  # a bar
            return ann2snn.FXConverter(ann2snn.RateCodingRecipe(dataloader=loader)).convert(network)  # type: ignore[no-any-return]

    def logits(network: nn.Module, x: Tensor) -> Tensor:
        return torch.stack([network(x) for _ in range(steps)]).mean(0)

    told = {"steps": steps, "step_mode": "s"}
    return Owned(make, _reset_first(logits), "spikingjelly", told, 90, 1e-2, averaged, after)


# snnTorch


class _ByHand(nn.Module):
    """The form of snnTorch's tutorials: states are made, handed over and taken back by the loop; membranes are read."""

    def __init__(self, hidden: nn.Module, out: nn.Module, steps: int) -> None:
        super().__init__()
        self.fc1, self.hidden, self.fc2, self.out = nn.Linear(64, 32), hidden, nn.Linear(32, 10), out
        self.steps = steps

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        made, mem = self.hidden.reset_mem(), self.out.reset_mem()  # type: ignore[operator]
        states = made if isinstance(made, tuple) else (made,)
        spikes, mems = [], []
        for _ in range(self.steps):
            given = self.hidden(self.fc1(x.flatten(1)), *states)
            states = given[len(given) - len(states) :]
            spike, mem = self.out(self.fc2(given[0]), mem)
            spikes.append(spike)
            mems.append(mem)
        return torch.stack(mems), torch.stack(spikes)


_SNNTORCH: dict[str, dict[str, Any]] = {
    "Leaky": {"beta": 0.8},
    "Synaptic": {"alpha": 0.7, "beta": 0.8},
    # Its state lasts only where it is as wide as its input, and its membranes lie in (-1,1).
    "SLSTM": {"input_size": 32, "hidden_size": 32, "threshold": 0.1},
    "RLeaky": {"beta": 0.8, "linear_features": 32},
}


def by_hand(kind: str, steps: int = 5) -> Owned:
    import snntorch

    def make() -> nn.Module:
        return _ByHand(getattr(snntorch, kind)(**_SNNTORCH[kind]), snntorch.Leaky(beta=0.9), steps)

    return Owned(make, averaged, "snntorch")


def hidden(kind: str, steps: int = 5) -> Owned:
    """States stay in the neurons; the owner resets them, and counts the spikes of the last layer."""
    import snntorch
    from snntorch import utils

    def make() -> nn.Module:
        neuron = getattr(snntorch, kind)(init_hidden=True, **_SNNTORCH[kind])
        out = snntorch.Leaky(beta=0.9, init_hidden=True, output=True)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), neuron, nn.Linear(32, 10), out)

    def logits(network: nn.Module, x: Tensor) -> Tensor:
        utils.reset(network)
        return torch.stack([network(x)[0] for _ in range(steps)]).mean(0)

    return Owned(make, logits, "snntorch", {"steps": steps, "step_mode": "s"})


# Norse


def cells(kind: str, steps: int = 6) -> Owned:
    """A cell and a recurrent one, an integrator at the end; the owner hands the state on from step to step."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is written for a torch whose jit was not deprecated
        import norse.torch as norse

    rates = {"tau_mem_inv": torch.tensor(500.0), "tau_syn_inv": torch.tensor(500.0), "v_th": torch.tensor(0.3)}

    def make() -> nn.Module:
        constants = getattr(norse, f"{kind}Parameters")(**rates)
        one, recurrent = getattr(norse, f"{kind}Cell"), getattr(norse, f"{kind}RecurrentCell")
        return norse.SequentialState(  # type: ignore[no-any-return]
            nn.Conv2d(1, 8, 3, padding=1), one(constants), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 32),
            recurrent(32, 32, constants), nn.Linear(32, 10), norse.LICell(),
        )  # fmt: skip

    def logits(network: nn.Module, x: Tensor) -> Tensor:
        state, out = None, []
        for _ in range(steps):
            y, state = network(x, state)
            out.append(y)
        return torch.stack(out).mean(0)

    return Owned(make, logits, "norse", {"steps": steps, "step_mode": "s"})


def own(name: str) -> Owned:
    """A network whose neurons are written by hand."""
    from own_neurons import NETWORKS

    return Owned(NETWORKS[name], averaged, "")


OWNED: dict[str, Callable[[], Owned]] = {
    "Spikformer": spikformer,
    "spike-driven transformer": spike_driven_transformer,
    "converted": converted,
    **{f"{kind}, by hand": partial(by_hand, kind) for kind in _SNNTORCH},
    **{f"{kind}, hidden": partial(hidden, kind) for kind in _SNNTORCH},
    **{f"{kind} cells": partial(cells, kind) for kind in ("LIF", "LSNN")},
    **{f"own: {name}": partial(own, name)
       for name in ("a loop", "(N,T,*)", "learned thresholds", "straight through")},
}  # fmt: skip
"""By the names that the table has; making one imports its framework."""
