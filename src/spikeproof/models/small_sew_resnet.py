"""A small SEW-ResNet of the same kind, for small images and a CPU."""

from __future__ import annotations

from functools import partial
from typing import Literal

from spikeproof.layers.pooling import Pool
from spikeproof.models._resnet import NeuronFactory, ResNet
from spikeproof.models._sew_block import SEWBlock

__all__ = ["SmallSEWResNet"]


class SmallSEWResNet(ResNet):
    """3x3 stem, the same 3x3 stride-2 pool, then two stages of one basic SEW block: 8x8 images reach 2x2 maps."""

    def __init__(
        self,
        *,
        in_channels: int,
        classes: int,
        neuron: NeuronFactory,
        connect: Literal["ADD", "AND", "IAND"] = "ADD",
        pool: Pool = "max",
        width: int = 16,
    ) -> None:
        super().__init__(
            partial(SEWBlock, connect=connect, bottleneck=False),
            (1, 1),
            in_channels=in_channels,
            classes=classes,
            neuron=neuron,
            pool=pool,
            stem="cifar",
            width=width,
        )
