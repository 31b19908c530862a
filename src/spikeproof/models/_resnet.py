"""What the residual networks share: stem, stages, read-out, and layers without state run once on T x B."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, cast

from torch import Tensor, nn

from spikeproof.errors import UsageError
from spikeproof.layers.conv import Conv2d
from spikeproof.layers.copies import copied
from spikeproof.layers.folded import fold
from spikeproof.layers.max_pool import slim
from spikeproof.layers.over_time import over_time
from spikeproof.layers.pooling import Pool, stem_pool
from spikeproof.limits import WIDTH
from spikeproof.types import Neuron, Rule

__all__ = ["Block", "BlockFactory", "NeuronFactory", "ResNet", "stages_of"]

NeuronFactory = Callable[[], nn.Module]
BlockFactory = Callable[..., "Block"]

_STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}  # He et al. 2016, table 1


def stages_of(depth: int) -> tuple[tuple[int, ...], bool]:
    """Blocks per stage, and whether they are bottlenecks; UsageError for another depth."""
    if depth not in _STAGES:
        raise UsageError("a depth", depth, valid=_STAGES)
    return _STAGES[depth], depth >= 50


class Block(nn.Module):
    """Convolutions conv1.. with batch-norms bn1.. and neurons sn1.., and the shortcut's projection where it needs one.

    kernels: (3, 3) for the basic block, (1, 3, 1) for the bottleneck, which is 4 times as wide at its end; the stride
    sits at the first 3x3 convolution, as in torchvision and SpikingJelly. Subclasses say how the two branches meet.
    """

    def __init__(
        self, site: str, inputs: int, planes: int, stride: int, *, bottleneck: bool, neuron: NeuronFactory
    ) -> None:
        super().__init__()
        self.site = site
        self.outputs = planes * 4 if bottleneck else planes
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        self.length = len(kernels)
        channels = inputs
        for i, kernel in enumerate(kernels, start=1):
            wide = self.outputs if i == self.length else planes
            step = stride if i == kernels.index(3) + 1 else 1
            self.add_module(f"conv{i}", Conv2d(channels, wide, kernel, step, padding=kernel // 2, bias=False))
            self.add_module(f"bn{i}", nn.BatchNorm2d(wide))
            self.add_module(f"sn{i}", neuron())
            channels = wide
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != self.outputs:
            self.downsample = nn.Sequential(
                Conv2d(inputs, self.outputs, 1, stride, bias=False), nn.BatchNorm2d(self.outputs)
            )

    def current(self, i: int, z: Tensor) -> Tensor:
        """Input current of neuron i: convolution i, then batch-norm i."""
        return over_time(z, getattr(self, f"conv{i}"), getattr(self, f"bn{i}"))

    def spikes(self, name: str, current: Tensor, rule: Rule) -> Tensor:
        return rule(cast(Neuron, getattr(self, name)), current, f"{self.site}.{name}")


class ResNet(nn.Module):
    """(T,B,C,H,W) -> logits (B,K): stem convolution, neuron, pool, stages, global mean, linear layer, mean over time.

    stem: 'imagenet' is 7x7 stride 2, 'cifar' is 3x3 stride 1; both are followed by a 3x3 stride-2 pool, max or avg,
    the paper's sparsity knob, or one of its controls (`spikeproof.layers.pooling.stem_pool`). width: channels of the
    first stage, doubled at each next one.
    """

    def __init__(
        self,
        block: BlockFactory,
        blocks: Sequence[int],
        *,
        in_channels: int,
        classes: int,
        neuron: NeuronFactory,
        pool: Pool,
        stem: Literal["imagenet", "cifar"],
        width: int,
    ) -> None:
        super().__init__()
        if stem not in ("imagenet", "cifar"):
            raise UsageError("a stem", repr(stem), valid=["imagenet", "cifar"], mend="set model.stem")
        if width < 1:
            raise UsageError("width >= 1", width)
        if width > WIDTH:
            raise UsageError(f"width <= {WIDTH}", width)
        self.in_channels, self.classes = in_channels, classes
        kernel, stride = (7, 2) if stem == "imagenet" else (3, 1)
        self.conv1 = Conv2d(in_channels, width, kernel, stride, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.sn1 = neuron()
        self.maxpool = stem_pool(pool)  # SpikingJelly's name for either pooling
        channels, self.stages = width, []
        for i, count in enumerate(blocks, start=1):
            stage = nn.ModuleList()
            for j in range(count):
                stride = 2 if i > 1 and j == 0 else 1
                stage.append(block(f"layer{i}.{j}", channels, width * 2 ** (i - 1), stride, neuron=neuron))
                channels = cast(Block, stage[-1]).outputs
            self.add_module(f"layer{i}", stage)
            self.stages.append(f"layer{i}")
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def frozen(self) -> ResNet:
        """A copy for attacks, in eval mode and with weights of its own: batch-norm folded, other kernels."""
        found = copied(self).eval().requires_grad_(False)
        fold(found, "conv1", "bn1")
        found.maxpool = slim(found.maxpool)
        for block in [m for m in found.modules() if isinstance(m, Block)]:
            for i in range(1, block.length + 1):
                fold(block, f"conv{i}", f"bn{i}")
            if block.downsample is not None:
                fold(block.downsample, "0", "1")
        return found

    def classify(self, z: Tensor, rule: Rule) -> Tensor:
        """Encoded input (T,B,C,H,W) -> logits (B,K), not normalised, averaged over time."""
        return self.beyond(self.stem(z), rule)

    def stem(self, z: Tensor) -> Tensor:
        """Encoded input (T,B,C,H,W) -> the first neuron's currents (T,B,C',H',W'); each step on its own."""
        return over_time(z, self.conv1, self.bn1)

    def beyond(self, currents: Tensor, rule: Rule) -> Tensor:
        """The first neuron's currents -> logits (B,K)."""
        z = rule(cast(Neuron, self.sn1), currents, "sn1")
        z = over_time(z, self.maxpool)
        for name in self.stages:
            for block in cast(nn.ModuleList, getattr(self, name)):
                z = block(z, rule)
        z = over_time(z, self.avgpool).flatten(2)  # (T,B,C)
        return over_time(z, self.fc).mean(0)
