"""Spiking-ResNet-18/34/50: a ResNet with its ReLUs replaced by spiking neurons; branches meet before the last one."""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import Tensor

from spikeproof.layers.over_time import over_time
from spikeproof.layers.pooling import Pool
from spikeproof.models._resnet import Block, NeuronFactory, ResNet, stages_of
from spikeproof.types import Rule

__all__ = ["SpikingResNet"]


class _SpikingBlock(Block):
    def forward(self, z: Tensor, rule: Rule) -> Tensor:
        branch = z
        for i in range(1, self.length):
            branch = self.spikes(f"sn{i}", self.current(i, branch), rule)
        shortcut = z if self.downsample is None else over_time(z, self.downsample)
        return self.spikes(f"sn{self.length}", self.current(self.length, branch) + shortcut, rule)


class SpikingResNet(ResNet):
    """The paper's second architecture. Its published code trains it with the reset in the graph: through_reset=True."""

    def __init__(
        self,
        *,
        in_channels: int,
        classes: int,
        neuron: NeuronFactory,
        depth: Literal[18, 34, 50] = 18,
        pool: Pool = "max",
        stem: Literal["imagenet", "cifar"] = "imagenet",
        width: int = 64,
    ) -> None:
        blocks, bottleneck = stages_of(depth)
        super().__init__(
            partial(_SpikingBlock, bottleneck=bottleneck),
            blocks,
            in_channels=in_channels,
            classes=classes,
            neuron=neuron,
            pool=pool,
            stem=stem,
            width=width,
        )
