"""Convolutions for maps of a few pixels, many at a time: channels-last, and as one matrix product where that is all.

A network of 32x32 images works on 4x4, 2x2 and 1x1 maps for most of its depth, where a general kernel multiplies
padding. Other kernels round otherwise: so evaluation keeps torch's own, bit by bit that of other frameworks, and these
serve training and the copies that attacks craft on (`folded.py`).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikeproof.layers.few import by_few, few
from spikeproof.layers.kept import ONCE
from spikeproof.layers.strided import by_steps, fits_steps
from spikeproof.layers.winograd import fits_tiles, learned_by_tiles
from spikeproof.native import fast
from spikeproof.native.convolution import Pair, outputs
from spikeproof.native.taps import from_rows, rowable, to_rows
from spikeproof.native.two_valued import tabled, two_valued

__all__ = ["Conv2d", "Pair", "as_matrix", "by_matrix", "fits", "pointwise", "usual"]


class Conv2d(nn.Conv2d):
    """nn.Conv2d, and in train mode on a CPU the same sums in the order that is fast on small maps.

    The gradient of a 1x1 kernel must be a matrix product: oneDNN's weight gradient of channels-last 1x1 convolutions
    writes beyond its memory where channels are no multiple of 8 (torch 2.13 on AVX2:
    jit_avx2_1x1_convolution_bwd_weights, by valgrind).
    """

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and fast() and x.device.type == "cpu" and x.dim() == 4 and usual(self)):
            return super().forward(x)
        stride, padding = cast(Pair, self.stride), cast(Pair, self.padding)
        size = cast(Pair, tuple(x.shape[-2:]))
        if fits_tiles(x, self.weight, stride, padding):
            return learned_by_tiles(x, self.weight, self.bias)
        if self.kernel_size != (1, 1) and fits(self.weight, stride, padding, size):
            return by_matrix(x, as_matrix(self.weight, stride, padding, size), self.bias, self.weight, stride, padding)
        if fits_steps(x, self.weight, stride, padding):
            return by_steps(x, self.weight, self.bias, stride, padding, ONCE)
        if self.kernel_size == (1, 1) and padding == (0, 0):
            return pointwise(x, self.weight, self.bias, stride)
        # Of the first image, since for images of more values tables are made for nothing.
        if few(x, self.weight, stride, padding) and tabled(x, self.weight, stride, padding) and two_valued(x[0]):
            return by_few(x, self.weight, self.bias, stride, padding, ONCE)
        return F.conv2d(_last(x), _last(self.weight), self.bias, stride, padding)


def usual(conv: nn.Conv2d) -> bool:
    """Whether weight, bias, stride and padding are all there is to a convolution: no groups, gaps or other borders."""
    whole = conv.groups == 1 and conv.dilation == (1, 1)
    return whole and conv.padding_mode == "zeros" and isinstance(conv.padding, tuple)


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair) -> Tensor:
    """x (N,C,H,W) through a 1x1 kernel (C',C,1,1) without padding -> (N,C',H',W'), channels-last."""
    return _Pointwise.apply(x, weight, bias, stride)  # type: ignore[no-any-return, no-untyped-call]


class _Pointwise(torch.autograd.Function):
    """Forward a convolution, which need not copy the pixels that it sees; backwards products of matrices."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair) -> Tensor:
        ctx.stride, ctx.shape = stride, x.shape
        ctx.save_for_backward(weight, *([x] if ctx.needs_input_grad[1] else []))
        return F.conv2d(_last(x), _last(weight), bias, stride)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (weight, *maps), (down, across) = ctx.saved_tensors, ctx.stride
        results, of_x, of_weight, of_bias = upstream.permute(0, 2, 3, 1), None, None, None
        if ctx.needs_input_grad[0]:
            of_x = results @ weight.flatten(1)
            if ctx.stride != (1, 1):
                images, channels, *pixels = ctx.shape
                seen, of_x = of_x, of_x.new_zeros(images, *pixels, channels)
                of_x[:, ::down, ::across] = seen
            of_x = of_x.permute(0, 3, 1, 2)
        if ctx.needs_input_grad[1]:
            seen = maps[0][:, :, ::down, ::across].permute(0, 2, 3, 1).flatten(0, 2)
            of_weight = (results.flatten(0, 2).t() @ seen).view(weight.shape)
        if ctx.needs_input_grad[2]:
            of_bias = upstream.sum((0, 2, 3))
        return of_x, of_weight, of_bias, None


def fits(weight: Tensor, stride: Pair, padding: Pair, size: Pair) -> bool:
    """Whether every output sees the whole (H,W) map: then a matrix holds no zeros, and no product is wasted."""
    kernel = weight.shape[2:]
    if size[0] + padding[0] > kernel[0] or size[1] + padding[1] > kernel[1]:  # as nearly every map is larger
        return False
    last = [count - 1 for count in outputs(size, kernel, stride, padding)]
    return min(last) >= 0 and all(padding[i] - last[i] * stride[i] >= 0 for i in (0, 1))


def as_matrix(weight: Tensor, stride: Pair, padding: Pair, size: Pair) -> Tensor:
    """weight (C',C,k,k) -> (H' W' C', H W C), differentiable: row (i,j,c') holds the taps with which output (i,j) sees
    the map. Only where it `fits`."""
    return _Taps.apply(weight, size, _first(weight, stride, padding, size))  # type: ignore[no-any-return, no-untyped-call]


def _first(weight: Tensor, stride: Pair, padding: Pair, size: Pair) -> list[Pair]:
    """Of each output, row by row: the first of the taps, down and across, with which it sees the map."""
    down, across = outputs(size, weight.shape[2:], stride, padding)
    return [(padding[0] - i * stride[0], padding[1] - j * stride[1]) for i in range(down) for j in range(across)]


def _seen(size: Pair, first: list[Pair]) -> list[tuple[slice, slice]]:
    return [(slice(top, top + size[0]), slice(left, left + size[1])) for top, left in first]


class _Taps(torch.autograd.Function):
    """`as_matrix`, linear; its gradient is `_Rows`, and that one's is this."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, size: Pair, first: list[Pair]) -> Tensor:
        ctx.rest = weight.shape, torch.empty_like(weight, device="meta").stride(), size, first
        if rowable(weight):
            return to_rows(weight, size, first)
        return torch.cat([weight[:, :, *taps].permute(0, 2, 3, 1).flatten(1) for taps in _seen(size, first)])

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        return _Rows.apply(upstream, *ctx.rest), None, None  # type: ignore[no-untyped-call]


class _Rows(torch.autograd.Function):
    """All outputs add to one gradient of the weight, where torch would make and clear one as large for each of them; in
    the weight's own memory layout, where torch would copy it, one float after the other."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, shape: tuple[int, ...], strides: tuple[int, ...], size: Pair, first: list[Pair]
    ) -> Tensor:
        ctx.rest = size, first
        gradient = rows.new_empty_strided(shape, strides)
        if rowable(gradient):
            from_rows(rows, gradient, size, first)
            return gradient
        gradient.zero_()
        for taps, each in zip(_seen(size, first), rows.chunk(len(first)), strict=True):
            part = gradient[:, :, *taps]
            part += each.reshape(shape[0], *size, shape[1]).permute(0, 3, 1, 2)
        return gradient

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return _Taps.apply(upstream, *ctx.rest), None, None, None, None  # type: ignore[no-untyped-call]


def by_matrix(x: Tensor, matrix: Tensor, bias: Tensor | None, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """x (N,C,H,W) through `matrix`, made by `as_matrix` of the other arguments -> (N,C',H',W'), channels-last."""
    down, across = outputs(x.shape[-2:], weight.shape[2:], stride, padding)
    flat = x.permute(0, 2, 3, 1).flatten(1)  # a view of channels-last maps
    out = F.linear(flat, matrix, None if bias is None else bias.repeat(down * across))
    return out.view(x.shape[0], down, across, weight.shape[0]).permute(0, 3, 1, 2)
