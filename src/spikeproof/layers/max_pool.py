"""Max pools with the values and gradients of torch's, bit by bit, for less time or memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikeproof.native import fast

__all__ = ["MaxPool2d", "SlimMaxPool2d", "max_pool", "slim"]

_FEW = 4
"""Channels from which on torch's channels-last kernel is worth the two copies."""


def max_pool(x: Tensor, kernel: Any, stride: Any, padding: Any = 0, dilation: Any = 1, ceil: bool = False) -> Tensor:
    """F.max_pool2d of (N,C,H,W) or (C,H,W), in the layout of x. Where channel follows channel torch's CPU kernel
    compares one number at a time, channels-last it does not. A maximum is not rounded; a gradient keeps torch's way."""
    graph = torch.is_grad_enabled() and x.requires_grad
    slow = x.device.type == "cpu" and x.dim() == 4 and x.shape[1] >= _FEW and x.is_contiguous()
    if graph or not slow or not fast():
        return F.max_pool2d(x, kernel, stride, padding, dilation, ceil)
    last = x.contiguous(memory_format=torch.channels_last)
    return F.max_pool2d(last, kernel, stride, padding, dilation, ceil).contiguous()


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


class SlimMaxPool2d(nn.MaxPool2d):
    """nn.MaxPool2d on a fifth of the memory for binary maps: it remembers where the maxima were and not the map that
    they were in; no second derivative."""

    def forward(self, x: Tensor) -> Tensor:
        if not (torch.is_grad_enabled() and x.requires_grad):
            return super().forward(x)  # type: ignore[no-any-return]
        pairs = [_pair(v) for v in (self.kernel_size, self.stride, self.padding, self.dilation)]
        return _Pool.apply(x, (*pairs, self.ceil_mode))  # type: ignore[no-any-return, no-untyped-call]


def _pair(size: int | tuple[int, ...]) -> list[int]:
    return [size, size] if isinstance(size, int) else list(size)


def slim(pool: nn.Module) -> nn.Module:
    """The slim form of a plain max pool; any other layer as it is."""
    if not isinstance(pool, nn.MaxPool2d) or type(pool) not in (nn.MaxPool2d, MaxPool2d) or pool.return_indices:
        return pool
    found = SlimMaxPool2d(pool.kernel_size, pool.stride, pool.padding, pool.dilation, ceil_mode=pool.ceil_mode)
    return found.train(pool.training)
