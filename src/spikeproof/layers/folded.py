"""A convolution and the batch-norm behind it as one layer without gradients of its own, executed for speed."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from spikeproof.layers.conv import Conv2d, Pair, as_matrix, by_matrix, fits, pointwise, usual
from spikeproof.layers.few import by_few, by_torch, few
from spikeproof.layers.kept import Kept
from spikeproof.layers.strided import by_steps, fits_steps
from spikeproof.layers.winograd import by_tiles, fits_tiles

__all__ = ["FoldedConv", "fold"]


class FoldedConv(nn.Module):
    """A convolution and the batch-norm behind it: (N,C,H,W) -> (N,C',H',W'), channels-last; no weight gradient."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        mean, variance = cast(Tensor, norm.running_mean).double(), cast(Tensor, norm.running_var).double()
        scale = norm.weight.double() / (variance + norm.eps).sqrt()
        before = 0.0 if conv.bias is None else conv.bias.double()
        shift = norm.bias.double() + (before - mean) * scale
        weight = (conv.weight.double() * scale[:, None, None, None]).to(conv.weight.dtype)
        self.register_buffer("weight", weight.detach().contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", shift.detach().to(conv.weight.dtype))
        self.stride, self.padding = cast(Pair, conv.stride), cast(Pair, conv.padding)
        self._kept = Kept()

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        weight, bias, given = self.weight, self.bias, (self.stride, self.padding)
        size = cast(Pair, tuple(x.shape[-2:]))
        if fits_tiles(x, weight, *given):
            return by_tiles(x, weight, bias, self._kept)
        if fits(weight, *given, size):
            matrix = self._kept.of(weight, ("matrix", size, *given), lambda weight: as_matrix(weight, *given, size))
            return by_matrix(x, matrix, bias, weight, *given)
        if fits_steps(x, weight, *given):
            return by_steps(x, weight, bias, *given, self._kept)
        if x.device.type == "cpu" and weight.shape[2:] == (1, 1) and self.padding == (0, 0) and x.dim() == 4:
            return pointwise(x, weight, bias, self.stride)
        if few(x, weight, *given):  # with a graph and without: the same numbers
            return by_few(x, weight, bias, *given, self._kept)
        return by_torch(x, weight, bias, *given, self._kept)


def _settled(norm: nn.BatchNorm2d) -> bool:
    """Whether a batch-norm is one scale and one shift: learned ones, and statistics that do not depend on the batch."""
    return not any(t is None for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var))


def fold(owner: nn.Module, conv: str, norm: str) -> None:
    """Put a folded layer in the place of `owner`'s convolution, and nothing in that of its batch-norm; leaves what
    somebody has put there instead of the two alone, and layers that are more than a weight, a scale and a shift."""
    first, second = owner.get_submodule(conv), owner.get_submodule(norm)
    if type(first) is Conv2d and usual(first) and type(second) is nn.BatchNorm2d and _settled(second):
        owner.add_module(conv, FoldedConv(first, second))
        owner.add_module(norm, nn.Identity())
