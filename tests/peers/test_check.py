"""`check` on networks of SpikingJelly, snnTorch and Norse: what spoils numbers today, each trap found and named."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest
import torch
from peers.wrapped import X
from small import untouched
from torch import Tensor, nn

import spikeproof
from spikeproof.errors import SpikeproofError

try:
    import snntorch
    from snntorch import spikegen
    from spikingjelly.activation_based import encoding, functional, layer, neuron, surrogate

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Norse is written for a torch whose jit was not deprecated
        import norse.torch as norse
except Exception as error:
    pytest.skip(f"SpikingJelly, snnTorch or Norse does not import here: {error!r}", allow_module_level=True)

T = 4


def spiking(mode: str = "m", kind: Any = neuron.LIFNode) -> nn.Sequential:
    """A SpikingJelly network on steps, lively without training."""
    made = nn.Sequential(
        layer.Conv2d(1, 8, 3, padding=1), kind(surrogate_function=surrogate.ATan()), layer.Flatten(),
        layer.Linear(512, 10),
    )  # fmt: skip
    with torch.no_grad():
        made[0].weight.abs_().mul_(3)  # type: ignore[union-attr, operator]
    functional.set_step_mode(made, mode)
    return made


class Encoded(nn.Module):
    """An encoder in front of a SpikingJelly network, in a loop over steps of its own, state reset as it should be."""

    def __init__(self, encode: Any) -> None:
        super().__init__()
        self.encode, self.inner = encode, spiking("s")

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self)
        return sum(self.inner(self.encode(x)) for _ in range(T)) / T  # type: ignore[return-value]


class InTime(nn.Module):
    """(N,C,H,W) -> all steps by `encode`, time first -> SpikingJelly's multi-step network."""

    def __init__(self, encode: Any) -> None:
        super().__init__()
        self.encode, self.inner = encode, spiking()

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self)
        return self.inner(self.encode(x)).mean(0)  # type: ignore[no-any-return]


class Forgets(nn.Module):
    """snnTorch's loop, whose membranes go on from one batch to the next."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif, self.mem = nn.Linear(64, 10), snntorch.Leaky(beta=0.9), torch.zeros(1, 10)

    def forward(self, x: Tensor) -> Tensor:
        mem = self.mem.mean(0, keepdim=True).expand(len(x), -1)
        for _ in range(T):
            _, mem = self.lif(self.fc(x.flatten(1)), mem)
        self.mem = mem.detach()
        return mem  # type: ignore[no-any-return]


class Swapped(nn.Module):
    """(N,T,*) made of images and given to layers that take (T,N,*): SpikingJelly accepts it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = spiking()

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self)
        return self.inner(x.unsqueeze(1).repeat(1, T, 1, 1, 1)).mean(1)  # type: ignore[no-any-return]


class FourAxes(nn.Module):
    """A multi-step node behind layers of torch: it takes the images of a batch for steps."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.node = nn.Linear(64, 10), neuron.IFNode(step_mode="m")

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self)
        return self.node(5 * self.fc(x.flatten(1)))  # type: ignore[no-any-return]


class Old(neuron.LIFNode):
    def neuronal_fire(self) -> Any:
        return None


class OnCuda(neuron.LIFNode):
    """A node whose forward is a kernel of its own."""

    def multi_step_forward(self, x_seq: Tensor, *rest: Any) -> Any:
        return torch.empty(1, device="cuda")

    forward = multi_step_forward


def phase(x: Tensor) -> Tensor:
    encoder = encoding.WeightedPhaseEncoder(K=8)
    return torch.stack([encoder((x * 255 / 256).clamp(max=255 / 256)) for _ in range(8)])


def latency(x: Tensor) -> Tensor:
    encoder = encoding.LatencyEncoder(T, enc_function="linear")
    return torch.stack([encoder(x) for _ in range(T)])


def rate(x: Tensor) -> Tensor:
    return spikegen.rate(x, num_steps=T)  # type: ignore[no-any-return]


def first_spikes(x: Tensor) -> Tensor:
    return spikegen.latency(x, num_steps=T, normalize=True, linear=True)  # type: ignore[no-any-return]


TRAPS: dict[str, tuple[Any, dict[str, Any], list[tuple[str, str]]]] = {
    "poisson of spikingjelly": (lambda: Encoded(encoding.PoissonEncoder()), {}, [
        ("state and noise", r"noise is drawn in 'encode' \(PoissonEncoder\)"),
        ("gradient", r"cut in 'encode' \(PoissonEncoder\)")]),
    "latency of spikingjelly": (lambda: InTime(latency), {}, [
        ("gradient", r"cut in the forward of the model \(InTime\), before 'inner.0'")]),
    "weighted phase of spikingjelly": (lambda: InTime(phase), {}, [
        ("gradient", r"(cut|exactly 0 .*) in the forward of the model \(InTime\), before 'inner.0'")]),
    "rate of snntorch": (lambda: InTime(rate), {}, [
        ("state and noise", r"noise is drawn in"), ("gradient", r"exactly 0 for every image: .* before 'inner.0'")]),
    "latency of snntorch": (lambda: InTime(first_spikes), {}, [
        ("gradient", r"cut in the forward of the model \(InTime\), before 'inner.0'")]),
    "poisson of norse": (lambda: InTime(norse.PoissonEncoder(T)), {}, [
        ("state and noise", r"noise is drawn"), ("gradient", r"cut in 'encode' \(PoissonEncoder\)")]),
    "signed poisson of norse": (lambda: InTime(norse.SignedPoissonEncoder(T)), {}, [
        ("state and noise", r"noise is drawn"), ("gradient", r"exactly 0 .* in 'encode' \(SignedPoissonEncoder\)")]),
    "state that nobody resets": (Forgets, {}, [("state and noise", r"the model \(Forgets\) remembers")]),
    "axes swapped": (Swapped, {}, [("images apart", r"images are mixed in 'inner.1' \(LIFNode\)")]),
    "four axes for a multi-step node": (FourAxes, {}, [("images apart", r"images are mixed in 'node' \(IFNode\)")]),
    "a node of before 2": (lambda: spiking(kind=Old), {}, [("neurons", r"'1'.*Old, whose neuronal_fire")]),
    "a node on cuda alone": (lambda: spiking(kind=OnCuda), {"steps": T}, [("layout", r"in '1' \(OnCuda\)")]),
}  # fmt: skip


@pytest.mark.parametrize("name", TRAPS)
def test_a_trap_is_refused(name: str) -> None:
    make, options, expected = TRAPS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().eval()
    with untouched(model):
        found = spikeproof.check(model, X, **options)
    assert found.refused
    for question, says in expected:
        assert found[question].verdict == "refuse"
        assert re.search(says, found[question].says), found[question].says
        assert found[question].mend


def test_the_mend_of_a_node_on_cuda_names_the_path() -> None:
    with pytest.raises(SpikeproofError, match=r"in '1' \(OnCuda\).*without a CPU path"):
        spikeproof.wrap(spiking(kind=OnCuda).eval(), X, steps=T)


def test_swapped_axes_are_refused_by_wrap_too() -> None:
    """SpikingJelly takes (N,T,*) without a word; the last image of a batch then depends on those before it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for model, where in ((Swapped(), "'inner.1'"), (FourAxes(), "'node'")):
            with pytest.raises(SpikeproofError, match=f"mixed in {where}"):
                spikeproof.wrap(model.eval(), X)


class ByHand(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(64, 10), snntorch.Leaky(beta=0.9)

    def forward(self, x: Tensor) -> Tensor:
        mem, out = self.lif.reset_mem(), []
        for _ in range(T):
            _, mem = self.lif(self.fc(x.flatten(1)), mem)
            out.append(mem)
        return torch.stack(out)


class OwnSteps(nn.Module):
    """An image in, SpikingJelly's steps inside."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.inner, self.mode = spiking(mode), mode

    def forward(self, x: Tensor) -> Tensor:
        if self.mode == "m":
            return self.inner(x.unsqueeze(0).repeat(T, 1, 1, 1, 1)).mean(0)  # type: ignore[no-any-return]
        return sum(self.inner(x) for _ in range(T)) / T  # type: ignore[return-value]


class Resets(nn.Module):
    """A forward that begins with SpikingJelly's own reset, which calls `reset` of any module that has one."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = spiking()

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self)
        return self.inner(x.unsqueeze(0).repeat(T, 1, 1, 1, 1)).mean(0)  # type: ignore[no-any-return]


def hidden() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), snntorch.Leaky(beta=0.8, init_hidden=True, output=True))


def cells() -> nn.Module:
    return norse.SequentialState(nn.Flatten(), nn.Linear(64, 20), norse.LIFCell(), nn.Linear(20, 10), norse.LICell())


def lifted() -> nn.Module:
    return norse.SequentialState(nn.Flatten(2), nn.Linear(64, 20), norse.LIF(), nn.Linear(20, 10), norse.LI())


SOUND: dict[str, tuple[Any, str, str]] = {
    "spikingjelly, many steps": (spiking, "time first", "'1'; rule of training: ATan"),
    "spikingjelly, single steps": (lambda: spiking("s"), "one step a call", "'1'; rule of training: ATan"),
    "spikingjelly, steps inside, m": (lambda: OwnSteps("m"), "makes its own time", "'inner.1'"),
    "spikingjelly, steps inside, s": (lambda: OwnSteps("s"), "makes its own time", "'inner.1'"),
    "spikingjelly, steps and reset inside": (Resets, "makes its own time", "'inner.1'"),
    "snntorch, by hand": (ByHand, "makes its own time", "'lif'; rule of training: ATan"),
    "snntorch, hidden": (hidden, "one step a call", "'2'; rule of training: ATan"),
    "norse, cells": (cells, "one step a call", "'2'"),
    "norse, lifted": (lifted, "time first", "'2'"),
}


@pytest.mark.parametrize("name", SOUND)
def test_the_time_axis_is_found_and_stated(name: str) -> None:
    make, layout, neurons = SOUND[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().eval()
    with untouched(model):
        found = spikeproof.check(model, X)
    assert layout in found["layout"].says, str(found)
    assert neurons in found["neurons"].says
    assert [str(f) for f in found.results if f.verdict == "refuse"] == []
    assert found.victim is not None
    assert found.victim.apart == 0.0
