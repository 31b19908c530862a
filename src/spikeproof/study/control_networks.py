"""The networks that only the controls have: one that sees maxima of pixels, and one that is written in plain torch."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikeproof.data.digits import Digits
from spikeproof.layers.over_time import over_time
from spikeproof.models.small_sew_resnet import SmallSEWResNet
from spikeproof.types import Rule

__all__ = ["Plain", "PooledResNet", "plain"]


class PooledResNet(SmallSEWResNet):
    """A network that sees the maximum of every 2x2 pixels: three pixels in four have no gradient, and all matter."""

    def classify(self, z: Tensor, rule: Rule) -> Tensor:
        return super().classify(over_time(z, nn.MaxPool2d(2), nn.Upsample(scale_factor=2)), rule)


class _Fires(torch.autograd.Function):
    """1 where a membrane (*) reaches 1; backwards the slope of a sigmoid, `sharp` times as steep, times `scale`."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, sharp: float, scale: float) -> Tensor:
        ctx.save_for_backward(v)
        ctx.sharp, ctx.scale = sharp, scale
        return (v >= 1.0).to(v)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (v,) = ctx.saved_tensors
        s = torch.sigmoid(ctx.sharp * (v - 1.0))
        return grads[0] * (ctx.scale * ctx.sharp * s * (1.0 - s)), None, None


class Plain(nn.Module):
    """IF neurons with a soft reset as anybody writes them, over six steps: images (B,1,8,8) -> mean logits (B,10)."""

    def __init__(self, sharp: float = 4.0, scale: float = 1.0) -> None:
        super().__init__()
        self.sharp, self.scale = sharp, scale
        self.layers = nn.ModuleList([nn.Linear(64, 96), nn.Linear(96, 96)])
        self.head = nn.Linear(96, 10)

    def forward(self, x: Tensor) -> Tensor:
        membranes: list[Tensor | float] = [0.0] * len(self.layers)
        out = []
        for _ in range(6):
            z = x.flatten(1)
            for i, layer in enumerate(self.layers):
                v = membranes[i] + layer(z)
                z = _Fires.apply(v, self.sharp, self.scale)  # type: ignore[no-untyped-call]
                membranes[i] = v - z
            out.append(self.head(z))
        return torch.stack(out).mean(0)


@cache
def _trained(epochs: int) -> Plain:
    data = Digits().load("train")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Plain()
        optimiser = torch.optim.Adam(net.parameters(), 5e-3)
        for epoch in range(epochs):
            order = torch.randperm(len(data), generator=torch.Generator().manual_seed(epoch))
            for first in range(0, len(order), 32):
                x, y, _ = data.at(order[first : first + 32])
                optimiser.zero_grad()
                F.cross_entropy(4.0 * net(x), y).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
    net.zero_grad()
    return net.eval()


def plain(epochs: int, sharp: float, scale: float) -> Plain:
    """Trained on digits for `epochs` with a slope of 4, once in a process; then its slope is that of `sharp` > 0, times
    `scale`, which changes no answer."""
    net = copy.deepcopy(_trained(epochs))
    net.sharp, net.scale = sharp, scale
    return net
