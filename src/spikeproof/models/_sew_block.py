"""The SEW block: conv-bn-spike chains, joined after the spikes."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from spikeproof.errors import UsageError
from spikeproof.layers.over_time import over_time
from spikeproof.models._resnet import Block, NeuronFactory
from spikeproof.types import Rule

__all__ = ["SEWBlock"]


class SEWBlock(Block):
    """connect: ADD x + y, AND x y, IAND x (1 - y) of the shortcut's and the branch's spikes (SEW-ResNet, table 1)."""

    def __init__(
        self,
        site: str,
        inputs: int,
        planes: int,
        stride: int,
        *,
        connect: Literal["ADD", "AND", "IAND"],
        bottleneck: bool,
        neuron: NeuronFactory,
    ) -> None:
        super().__init__(site, inputs, planes, stride, bottleneck=bottleneck, neuron=neuron)
        if connect not in ("ADD", "AND", "IAND"):
            raise UsageError("a connect function", repr(connect), valid=["ADD", "AND", "IAND"])
        self.connect = connect
        self.bottleneck = bottleneck
        if self.downsample is not None:
            self.downsample_sn = neuron()

    def forward(self, z: Tensor, rule: Rule) -> Tensor:
        branch = z
        for i in range(1, self.length):
            branch = self.spikes(f"sn{i}", self.current(i, branch), rule)
        deepest = self.current(self.length, branch)
        # Between the two, so that the deepest neuron runs last, where MPPD looks for it, and gradients at z add up in
        # the order in which they always did: in another one they have other bits.
        if self.downsample is not None:
            z = self.spikes("downsample_sn", over_time(z, self.downsample), rule)
        branch = self.spikes(f"sn{self.length}", deepest, rule)
        if self.connect == "ADD":
            return z + branch
        if self.connect == "AND":
            return z * branch
        # SpikingJelly's bottleneck has the roles the other way round than its basic block and the paper; weights
        # trained there must give the same numbers here.
        return branch * (1.0 - z) if self.bottleneck else z * (1.0 - branch)
