"""SEW-ResNet-18/34/50: both branches of a block end in spikes and meet element by element."""

from __future__ import annotations

from functools import partial
from typing import Literal

from spikeproof.layers.pooling import Pool
from spikeproof.models._resnet import NeuronFactory, ResNet, stages_of
from spikeproof.models._sew_block import SEWBlock

__all__ = ["SEWResNet"]


class SEWResNet(ResNet):
    """Fang et al., "Deep Residual Learning in Spiking Neural Networks" (NeurIPS 2021), the paper's main architecture.

    depth: 18, 34 or 50; connect: how the branches meet, ADD, AND or IAND; pool, stem, width: see `ResNet`.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        classes: int,
        neuron: NeuronFactory,
        depth: Literal[18, 34, 50] = 18,
        connect: Literal["ADD", "AND", "IAND"] = "ADD",
        pool: Pool = "max",
        stem: Literal["imagenet", "cifar"] = "imagenet",
        width: int = 64,
    ) -> None:
        blocks, bottleneck = stages_of(depth)
        super().__init__(
            partial(SEWBlock, connect=connect, bottleneck=bottleneck),
            blocks,
            in_channels=in_channels,
            classes=classes,
            neuron=neuron,
            pool=pool,
            stem=stem,
            width=width,
        )
