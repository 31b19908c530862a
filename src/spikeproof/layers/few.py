"""Convolutions of maps of few channels, as the first layer's are: their gradient at the maps in C, and their results by
tables where the maps have two values, as a phase code's have."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from spikeproof.layers.kept import Kept
from spikeproof.native.convolution import Pair
from spikeproof.native.few import few, few_backward
from spikeproof.native.two_valued import looked_up, tabled, tables

__all__ = ["by_few", "by_torch", "few"]


def by_few(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, kept: Kept) -> Tensor:
    """x (N,C,H,W) that is `few` -> (N,K,H',W'), with gradients of every order; kept: what is made of this weight, from
    call to call."""
    return _OfFew.apply(x, weight, bias, (stride, padding), kept)  # type: ignore[no-any-return, no-untyped-call]


_Steps = tuple[Pair, Pair]
"""Stride and padding."""


class _OfFew(Function):
    """Linear in x, in the weight and in the bias."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, steps: _Steps, kept: Kept) -> Tensor:
        ctx.size, ctx.steps, ctx.kept = cast(Pair, tuple(x.shape[-2:])), steps, kept
        ctx.save_for_backward(weight, *([x] if ctx.needs_input_grad[1] else []))
        return _forward(x, weight, bias, steps, kept)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        weight, *maps = ctx.saved_tensors
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = _BackToFew.apply(upstream, weight, ctx.size, ctx.steps, ctx.kept)  # type: ignore[no-untyped-call]
        if ctx.needs_input_grad[1]:
            of_weight = _of_weight(maps[0], upstream, weight, ctx.steps)
        if ctx.needs_input_grad[2]:
            of_bias = upstream.sum((0, 2, 3))
        return of_x, of_weight, of_bias, None, None


class _BackToFew(Function):
    """The gradient at the maps, linear in that of the results and in the weight."""

    @staticmethod
    def forward(ctx: Any, upstream: Tensor, weight: Tensor, size: Pair, steps: _Steps, kept: Kept) -> Tensor:
        ctx.steps, ctx.kept = steps, kept
        ctx.save_for_backward(weight, *([upstream] if ctx.needs_input_grad[1] else []))
        return few_backward(upstream, weight, size, *steps)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        weight, *results = ctx.saved_tensors
        of_results = of_weight = None
        if ctx.needs_input_grad[0]:
            of_results = _OfFew.apply(upstream, weight, None, ctx.steps, ctx.kept)  # type: ignore[no-untyped-call]
        if ctx.needs_input_grad[1]:
            of_weight = _of_weight(upstream, results[0], weight, ctx.steps)
        return of_results, of_weight, None, None, None


def _of_weight(maps: Tensor, results: Tensor, weight: Tensor, steps: _Steps) -> Tensor:
    """The gradient of a weight by torch, from maps and the gradient of their results."""
    given = results, _last(maps), _last(weight), None, *steps, (1, 1), False, (0, 0), 1, (False, True, False)
    return torch.ops.aten.convolution_backward(*given)[1]  # type: ignore[no-any-return]


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, steps: _Steps, kept: Kept) -> Tensor:
    """Images of two values by tables, each alike whatever is beside it; others by torch's convolution."""
    weight = _last(weight)  # so that results are, too
    if not tabled(x, weight, *steps):
        return by_torch(x, weight, bias, *steps, kept)
    out, fit = looked_up(x, kept.of(weight, "tables", tables), weight, bias, *steps)
    if bool(fit.all()):
        return out
    rest = (~fit).nonzero()[:, 0]
    found = by_torch(x[rest], weight, bias, *steps, kept)
    return found if rest.shape[0] == x.shape[0] else out.index_copy_(0, rest, found)


def by_torch(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, kept: Kept) -> Tensor:
    """The same of any maps and weight, on any device."""
    size = x.shape[-2:]
    # torch's pixel_unshuffle leaves the channels of no image as they are.
    if len(x) and stride == (2, 2) and x.shape[1] <= 4 and size[0] % 2 == size[1] % 2 == 0:
        return _by_depth(x, weight, bias, padding, kept)
    return F.conv2d(x, weight, bias, stride, padding)


def _by_depth(x: Tensor, weight: Tensor, bias: Tensor | None, padding: Pair, kept: Kept) -> Tensor:
    """Stride 2 on few channels as stride 1 on four times as many, each 2x2 block of pixels laid into channels: the same
    products, in vectors that are full."""
    kernel = weight.shape[-2:]
    front = [pad % 2 for pad in padding]  # taps of weight 0, so that the first tap begins a block
    back = [(size + lead) % 2 for size, lead in zip(kernel, front, strict=True)]
    around = front[1], back[1], front[0], back[0]
    known = kept.of(weight, ("deep", padding), lambda weight: _last(F.pixel_unshuffle(F.pad(weight, around), 2)))
    before = [(pad + lead) // 2 for pad, lead in zip(padding, front, strict=True)]
    after = [
        (size + 2 * pad - taps) // 2 + deep - size // 2 - first
        for size, pad, taps, deep, first in zip(x.shape[-2:], padding, kernel, known.shape[-2:], before, strict=True)
    ]
    blocks = F.pad(F.pixel_unshuffle(x, 2), (before[1], after[1], before[0], after[0]))
    return F.conv2d(_last(blocks), known, bias)


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
