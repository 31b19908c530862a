"""A convolution and the batch-norm behind it as one layer without gradients of its own, executed for speed."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from spikeproof.layers.conv import Conv2d, Pair, as_matrix, by_matrix, fits, pointwise, usual
from spikeproof.layers.winograd import Tiles, by_tiles, fits_tiles
from spikeproof.native.few import few, few_backward
from spikeproof.native.two_valued import looked_up, tabled, tables

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
        self._matrices: dict[Pair, Tensor] = {}
        self._deep: Tensor | None = None
        self._tables: Tensor | None = None
        self._made_of = _version(self.weight)
        self._tiles = Tiles()

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if (version := _version(self.weight)) != self._made_of:
            self._made_of, self._deep, self._tables = version, None, None
            self._matrices.clear()
        size = cast(Pair, tuple(x.shape[-2:]))
        if fits_tiles(x, self.weight, self.stride, self.padding):
            return by_tiles(x, self.weight, self.bias, self._tiles)
        if fits(self.weight, self.stride, self.padding, size):
            if size not in self._matrices:
                self._matrices[size] = as_matrix(self.weight, self.stride, self.padding, size)
            return by_matrix(x, self._matrices[size], self.bias, self.weight, self.stride, self.padding)
        if x.device.type == "cpu" and self.weight.shape[2:] == (1, 1) and self.padding == (0, 0) and x.dim() == 4:
            return pointwise(x, self.weight, self.bias, self.stride)
        if few(x, self.weight, self.stride, self.padding):  # with a graph and without: the same numbers
            return _OfFew.apply(x, self.weight, self, True)  # type: ignore[no-any-return, no-untyped-call]
        return self._by_torch(x, self.bias)

    def without_graph(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Images of two values by tables, each alike whatever is beside it; others by torch's convolution."""
        if not tabled(x, self.weight, self.stride, self.padding):
            return self._by_torch(x, bias)
        if self._tables is None:
            self._tables = tables(self.weight)
        out, fit = looked_up(x, self._tables, self.weight, bias, self.stride, self.padding)
        if bool(fit.all()):
            return out
        rest = (~fit).nonzero()[:, 0]
        found = self._by_torch(x[rest], bias)
        return found if len(rest) == len(x) else out.index_copy_(0, rest, found)

    def _by_torch(self, x: Tensor, bias: Tensor | None) -> Tensor:
        size = x.shape[-2:]
        # torch's pixel_unshuffle leaves the channels of no image as they are.
        if len(x) and self.stride == (2, 2) and x.shape[1] <= 4 and size[0] % 2 == size[1] % 2 == 0:
            return self._by_depth(x, bias)
        return F.conv2d(x, self.weight, bias, self.stride, self.padding)

    def _by_depth(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Stride 2 on few channels as stride 1 on four times as many, each 2x2 block of pixels laid into channels: the
        same products, in vectors that are full."""
        kernel, padding = self.weight.shape[-2:], self.padding
        front = [pad % 2 for pad in padding]  # taps of weight 0, so that the first tap begins a block
        back = [(size + lead) % 2 for size, lead in zip(kernel, front, strict=True)]
        if self._deep is None:
            whole = F.pad(self.weight, (front[1], back[1], front[0], back[0]))
            self._deep = F.pixel_unshuffle(whole, 2).contiguous(memory_format=torch.channels_last)
        before = [(pad + lead) // 2 for pad, lead in zip(padding, front, strict=True)]
        after = [
            (size + 2 * pad - taps) // 2 + deep - size // 2 - first
            for size, pad, taps, deep, first in zip(
                x.shape[-2:], padding, kernel, self._deep.shape[-2:], before, strict=True
            )
        ]
        blocks = F.pad(F.pixel_unshuffle(x, 2), (before[1], after[1], before[0], after[0]))
        return F.conv2d(blocks.contiguous(memory_format=torch.channels_last), self._deep, bias)


class _OfFew(Function):
    """A layer's convolution of maps of few channels by its weight, whose gradient is in C; linear but for the bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, layer: FoldedConv, shifted: bool) -> Tensor:
        ctx.layer, ctx.size = layer, cast(Pair, tuple(x.shape[-2:]))
        ctx.save_for_backward(weight)
        return layer.without_graph(x, layer.bias if shifted else None)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (weight,) = ctx.saved_tensors
        return _BackToFew.apply(upstream, weight, ctx.layer, ctx.size), None, None, None  # type: ignore[no-untyped-call]


class _BackToFew(Function):
    @staticmethod
    def forward(ctx: Any, upstream: Tensor, weight: Tensor, layer: FoldedConv, size: Pair) -> Tensor:
        ctx.layer = layer
        ctx.save_for_backward(weight)
        return few_backward(upstream, weight, size, layer.stride, layer.padding)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (weight,) = ctx.saved_tensors
        return _OfFew.apply(upstream, weight, ctx.layer, False), None, None, None  # type: ignore[no-untyped-call]


def _version(weight: Tensor) -> tuple[int, int] | None:
    """Another one where a weight was written to, but through `.data`; one of inference mode has none."""
    return None if weight.is_inference() else (weight.data_ptr(), weight._version)


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
