"""Max pools with the values and gradients of torch's, bit by bit, for less time or memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikeproof.native import fast
from spikeproof.native.pools import Window, pool, pool_backward, poolable

__all__ = ["MaxPool2d", "SlimMaxPool2d", "max_pool", "slim"]

_FEW = 4
"""Channels from which on torch's channels-last kernel is worth the two copies."""


def max_pool(x: Tensor, kernel: Any, stride: Any, padding: Any = 0, dilation: Any = 1, ceil: bool = False) -> Tensor:
    """F.max_pool2d of (N,C,H,W) or (C,H,W), in the layout of x. Where channel follows channel torch's CPU kernel
    compares one number at a time, channels-last it does not. A maximum is not rounded."""
    graph = torch.is_grad_enabled() and x.requires_grad
    if graph and x.is_contiguous(memory_format=torch.channels_last):
        known = _window(kernel, stride, padding, dilation, ceil)
        if known is not None and poolable(x, known):
            return _PoolInC.apply(x, known)  # type: ignore[no-any-return, no-untyped-call]
    slow = x.device.type == "cpu" and x.dim() == 4 and x.shape[1] >= _FEW and x.is_contiguous()
    if graph or not slow or not fast():
        return F.max_pool2d(x, kernel, stride, padding, dilation, ceil)
    copy, window = x.contiguous(memory_format=torch.channels_last), _window(kernel, stride, padding, dilation, ceil)
    if window is not None and poolable(copy, window):
        return pool(copy, window, places=False)[0].contiguous()
    return F.max_pool2d(copy, kernel, stride, padding, dilation, ceil).contiguous()


class MaxPool2d(nn.MaxPool2d):
    """nn.MaxPool2d without indices."""

    def forward(self, x: Tensor) -> Tensor:
        return max_pool(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, window: tuple[Any, ...]) -> Tensor:
        out, where = F.max_pool2d(x, *window, return_indices=True)
        ctx.window, ctx.shape, ctx.last = window, x.shape, x.is_contiguous(memory_format=torch.channels_last)
        # An index counts the pixels of one map.
        ctx.save_for_backward(where.to(torch.int16 if x.shape[-2] * x.shape[-1] < 2**15 else torch.int32))
        return out

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (where,) = ctx.saved_tensors
        kernel, stride, padding, dilation, ceil = ctx.window
        layout = torch.channels_last if ctx.last else torch.contiguous_format
        # Of the map only the shape is asked; its memory is never touched.
        shape = torch.empty(ctx.shape, dtype=upstream.dtype, device=upstream.device, memory_format=layout)
        backward = torch.ops.aten.max_pool2d_with_indices_backward
        return backward(upstream, shape, kernel, stride, padding, dilation, ceil, where.to(torch.int64)), None


class _PoolInC(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, window: Window) -> Tensor:
        out, where = pool(x, window, places=True)
        ctx.window, ctx.shape = window, x.shape
        ctx.save_for_backward(where)
        return out

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (where,) = ctx.saved_tensors
        return _BackInC.apply(upstream, where, ctx.shape, ctx.window), None  # type: ignore[no-untyped-call]


class _BackInC(torch.autograd.Function):
    """Linear: each number of the upstream gradient is sent to the place of its maximum, and its own is read there."""

    @staticmethod
    def forward(ctx: Any, upstream: Tensor, where: Tensor, size: torch.Size, window: Window) -> Tensor:
        ctx.window = window
        ctx.save_for_backward(where)
        return pool_backward(upstream, where, size, window)

    @staticmethod
    def backward(ctx: Any, second: Tensor) -> tuple[Tensor, None, None, None]:
        (where,) = ctx.saved_tensors
        (_, across), steps, padding = ctx.window
        down, right = (
            torch.arange(count, device=where.device) * step - pad
            for count, step, pad in zip(where.shape[2:], steps, padding, strict=True)
        )
        place = where.to(torch.int64)
        pixel = (down[:, None] + place // across) * second.shape[3] + right + place % across
        return second.flatten(2).gather(2, pixel.flatten(2)).view(where.shape), None, None, None


def _values_in_c(x: Tensor, window: Window) -> Tensor:
    return pool(x, window, places=False)[0]


class SlimMaxPool2d(nn.MaxPool2d):
    """nn.MaxPool2d on a fifth of the memory for binary maps: it remembers where the maxima were and not the map that
    they were in."""

    def forward(self, x: Tensor) -> Tensor:
        settings = (self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)
        window, graph = _window(*settings), torch.is_grad_enabled() and x.requires_grad
        if window is not None and poolable(x, window):
            in_c = _PoolInC.apply if graph else _values_in_c
            return in_c(x, window)
        if not graph:
            return super().forward(x)  # type: ignore[no-any-return]
        return _Pool.apply(x, (*map(_pair, settings[:4]), self.ceil_mode))  # type: ignore[no-any-return, no-untyped-call]


def _window(kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool) -> Window | None:
    """As the pools in C know it; None of a pool with gaps, or with windows that are not whole."""
    return None if ceil or _pair(dilation) != (1, 1) else Window(_pair(kernel), _pair(stride), _pair(padding))


def _pair(size: int | tuple[int, ...]) -> tuple[int, int]:
    down, across = (size, size) if isinstance(size, int) else size
    return down, across


def slim(pool: nn.Module) -> nn.Module:
    """The slim form of a plain max pool; any other layer as it is."""
    if not isinstance(pool, nn.MaxPool2d) or type(pool) not in (nn.MaxPool2d, MaxPool2d) or pool.return_indices:
        return pool
    found = SlimMaxPool2d(pool.kernel_size, pool.stride, pool.padding, pool.dilation, ceil_mode=pool.ceil_mode)
    return found.train(pool.training)
