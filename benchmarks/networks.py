"""The reference networks in every framework, on the same weights.

W1: SEW-ResNet-18 (ImageNet stem, ADD, max pool), IF, ATan 2, weighted phase code of 8 planes with straight-through
slopes, on noise of 3x32x32, untrained. W2: the small SEW-ResNet (width 16) trained on digits, direct code, images
1x8x8. Peers take spikeproof's own encoder, so that all see the same numbers.
"""

from __future__ import annotations

import copy
import functools
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikeproof.data.digits import Digits
from spikeproof.encoders.direct import Direct
from spikeproof.encoders.phase import Phase
from spikeproof.models.sew_resnet import SEWResNet
from spikeproof.models.small_sew_resnet import SmallSEWResNet
from spikeproof.neurons.if_ import IF
from spikeproof.rules.atan import ATan
from spikeproof.tensors import exact, fold, image_keys, uniform
from spikeproof.victims.victim import Victim

__all__ = ["SHAPES", "digits", "looped", "norse_folded", "ours", "pixels", "spikingjelly", "spikingjelly_of"]

SHAPES = {"W1": (3, 32, 32), "W2": (1, 8, 8)}
_BLOCKS = {"W1": (2, 2, 2, 2), "W2": (1, 1)}


def pixels(work: str, batch: int) -> Tensor:
    """Images (B,C,H,W), the same in every process: noise on the grid of 256 levels, or digits that W2 has not seen."""
    if work == "W2":
        return digits("test")[0][:batch]
    return torch.round(255 * uniform(image_keys(0, torch.arange(batch)), SHAPES[work])) / 255


def ours(work: str, steps: int) -> Victim:
    """The same weights in every process: W1 untrained, with the batch-norm statistics of its own images; W2 trained.

    Made once in a process, so that who has asked before times no training.
    """
    return copy.deepcopy(_ours(work, steps))


@functools.cache
def _ours(work: str, steps: int) -> Victim:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body: nn.Module
        if work == "W1":
            body, encoder = SEWResNet(in_channels=3, classes=10, neuron=IF), Phase(gradient="straight")
        else:
            body, encoder = SmallSEWResNet(in_channels=1, classes=10, neuron=IF, width=16), Direct()  # type: ignore[assignment]
    victim = Victim(body, encoder, steps)
    if work == "W2":
        return _trained(victim)
    with torch.no_grad():  # one forward in train mode moves the statistics to where some neurons fire
        for _ in range(20):
            victim(pixels(work, 16), exact, image_keys(0, torch.arange(16)))
    return victim.eval()


def digits(split: Literal["train", "test"]) -> tuple[Tensor, ...]:
    """Pixels, labels and ids of the digits, shuffled, on the device of the moment."""
    home = torch.get_default_device()
    with torch.device("cpu"):
        images = Digits().load(split)
        return tuple(t.to(home) for t in images.at(fold(images.ids, "benchmark").argsort()))


def _trained(victim: Victim) -> Victim:
    """Three epochs on digits: enough that PGD breaks some images at once, some late and some never."""
    x, y, ids = digits("train")
    optimiser = torch.optim.Adam(victim.parameters(), 0.01)
    for start in range(0, 3 * len(x), 64):
        at = torch.arange(start, start + 64) % len(x)
        optimiser.zero_grad()
        F.cross_entropy(victim(x[at], ATan(), image_keys(0, ids[at])), y[at]).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return victim.eval()


class _Coded(nn.Module):
    """Images -> logits: the encoder, a network over time, the mean."""

    def __init__(self, encoder: Any, steps: int, network: Any) -> None:
        super().__init__()
        self.encoder, self.steps, self.network = encoder, steps, network

    def forward(self, x: Tensor) -> Tensor:
        keys = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        return self.network(self.encoder(x, self.steps, keys)).mean(0)  # type: ignore[no-any-return]


class _SpikingJelly(_Coded):
    def forward(self, x: Tensor) -> Tensor:
        from spikingjelly.activation_based import functional

        functional.reset_net(self.network)
        return super().forward(x)


def spikingjelly(work: str, steps: int) -> nn.Module:
    """SpikingJelly 2's own network over all steps at once, with reset and mean, on our weights; in eval mode."""
    from spikingjelly.activation_based import neuron, surrogate
    from spikingjelly.activation_based.model import sew_resnet

    if work == "W2":
        return spikingjelly_of(ours(work, steps))
    options = {"spiking_neuron": neuron.IFNode, "surrogate_function": surrogate.ATan(), "detach_reset": True}
    return _in_spikingjelly(ours(work, steps), sew_resnet.sew_resnet18(num_classes=10, cnf="ADD", **options))


def spikingjelly_of(victim: Victim) -> nn.Module:
    """A SEW-ResNet of basic blocks, IF neurons and a max pool, of any width, of SpikingJelly's layers and blocks, which
    its own function makes at one width alone; on the victim's weights, in eval mode."""
    from spikingjelly.activation_based import layer, neuron, surrogate
    from spikingjelly.activation_based.model import sew_resnet

    options = {"spiking_neuron": neuron.IFNode, "surrogate_function": surrogate.ATan(), "detach_reset": True}
    node = partial(neuron.IFNode, surrogate_function=surrogate.ATan(), detach_reset=True)
    stem, stages = victim.body.conv1, [m for n, m in victim.body.named_children() if n.startswith("layer")]

    def down(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(layer.Conv2d(inputs, outputs, 1, 2, bias=False), layer.BatchNorm2d(outputs))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            shape = (stem.in_channels, stem.out_channels, stem.kernel_size, stem.stride, stem.padding)
            self.conv1 = layer.Conv2d(*shape, bias=False)
            self.bn1, self.sn1 = layer.BatchNorm2d(stem.out_channels), node()
            self.maxpool, channels = layer.MaxPool2d(3, 2, 1), stem.out_channels
            for i, blocks in enumerate(stages):
                made, outputs = [], stem.out_channels * 2**i
                for j in range(len(blocks)):
                    first = bool(i and not j)
                    shortcut = down(channels, outputs) if first else None
                    made.append(
                        sew_resnet.BasicBlock(channels, outputs, 2 if first else 1, shortcut, cnf="ADD", **options)
                    )
                    channels = outputs
                self.add_module(f"layer{i + 1}", nn.Sequential(*made))
            self.avgpool, self.fc = layer.AdaptiveAvgPool2d(1), layer.Linear(channels, victim.classes)

        def forward(self, z: Tensor) -> Tensor:
            z = self.maxpool(self.sn1(self.bn1(self.conv1(z))))
            for i in range(len(stages)):
                z = getattr(self, f"layer{i + 1}")(z)
            return self.fc(torch.flatten(self.avgpool(z), 2))  # type: ignore[no-any-return]

    return _in_spikingjelly(victim, Network())


def _in_spikingjelly(victim: Victim, network: nn.Module) -> nn.Module:
    from spikingjelly.activation_based import functional

    functional.set_step_mode(network, "m")
    network.load_state_dict(victim.body.state_dict())
    return _SpikingJelly(victim.encoder, victim.steps, network).eval()


class _Block(nn.Module):
    """A SEW basic block around a foreign neuron: convolutions, batch-norms, spikes, added."""

    def __init__(self, inputs: int, outputs: int, stride: int, node: Any) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn1, self.bn2, self.sn1, self.sn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs), node(), node()
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            self.downsample_sn = node()


class _ResNet(nn.Module):
    def __init__(self, work: str, node: Any) -> None:
        super().__init__()
        width = 64 if work == "W1" else 16
        kernel, stride = (7, 2) if work == "W1" else (3, 1)
        self.conv1 = nn.Conv2d(SHAPES[work][0], width, kernel, stride, kernel // 2, bias=False)
        self.bn1, self.sn1, self.maxpool = nn.BatchNorm2d(width), node(), nn.MaxPool2d(3, 2, 1)
        channels = width
        self.stages = []
        for i, count in enumerate(_BLOCKS[work]):
            blocks = nn.ModuleList()
            for j in range(count):
                blocks.append(_Block(channels, width * 2**i, 2 if i and not j else 1, node))
                channels = width * 2**i
            self.add_module(f"layer{i + 1}", blocks)
            self.stages.append(blocks)
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(channels, 10)


class _Looped(_ResNet):
    """The time loop around everything, states passed by hand: how snnTorch's and Norse's own examples are written."""

    def __init__(self, work: str, node: Any, fire: Any) -> None:
        super().__init__(work, node)
        self.fire = fire

    def forward(self, z: Tensor) -> Tensor:
        states: dict[int, Any] = {}

        def spikes(node: nn.Module, current: Tensor) -> Tensor:
            out, states[id(node)] = self.fire(node, current, states.get(id(node)))
            return out  # type: ignore[no-any-return]

        found = []
        for frame in z:
            x = self.maxpool(spikes(self.sn1, self.bn1(self.conv1(frame))))
            for blocks in self.stages:
                for block in blocks:
                    branch = spikes(block.sn1, block.bn1(block.conv1(x)))
                    branch = spikes(block.sn2, block.bn2(block.conv2(branch)))
                    x = branch + (x if block.downsample is None else spikes(block.downsample_sn, block.downsample(x)))
            found.append(self.fc(self.avgpool(x).flatten(1)))
        return torch.stack(found)


class _Folded(_ResNet):
    """Layers without state on all steps at once, the framework's own sequence modules in between."""

    def forward(self, z: Tensor) -> Tensor:
        def over(x: Tensor, *layers: nn.Module) -> Tensor:
            flat = x.flatten(0, 1)
            for one in layers:
                flat = one(flat)
            return flat.unflatten(0, x.shape[:2])

        x = over(self.sn1(over(z, self.conv1, self.bn1))[0], self.maxpool)
        for blocks in self.stages:
            for block in blocks:
                branch = block.sn1(over(x, block.conv1, block.bn1))[0]
                branch = block.sn2(over(branch, block.conv2, block.bn2))[0]
                x = branch + (x if block.downsample is None else block.downsample_sn(over(x, block.downsample))[0])
        return over(over(x, self.avgpool).flatten(2), self.fc)


def _loaded(work: str, steps: int, network: nn.Module) -> nn.Module:
    weights = {k: v for k, v in ours(work, steps).body.state_dict().items() if ".sn" not in k}
    missing, unexpected = network.load_state_dict(weights, strict=False)
    missing = [k for k in missing if "sn" not in k]  # what a framework's neuron keeps beside the weights
    if missing or unexpected:
        raise ValueError(f"weights that do not fit: missing {missing}, unexpected {unexpected}")
    return _Coded(ours(work, steps).encoder, steps, network).eval()


def looped(work: str, steps: int, framework: str) -> nn.Module:
    """snnTorch's Leaky with beta 1, or Norse's IAFCell, in a loop over time.

    Norse's surrogate is its SuperSpike, whose shape differs: its time is compared, not its gradient.
    """
    if framework == "snntorch":
        import snntorch

        node = partial(snntorch.Leaky, beta=1.0, reset_mechanism="zero", spike_grad=snntorch.surrogate.atan(alpha=2.0))

        def fire(module: Any, current: Tensor, state: Any) -> Any:
            return module(current, module.init_leaky() if state is None else state)

    else:
        import norse.torch

        node = norse.torch.IAFCell

        def fire(module: Any, current: Tensor, state: Any) -> Any:
            return module(current, state)

    return _loaded(work, steps, _Looped(work, node, fire))


def norse_folded(work: str, steps: int) -> nn.Module:
    """Norse's best form here: its IAF sequence modules, and everything else on all steps at once."""
    import norse.torch

    return _loaded(work, steps, _Folded(work, norse.torch.IAF))
