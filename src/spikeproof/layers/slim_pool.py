"""A max pool that remembers where its maxima were and not the map they were in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["SlimMaxPool2d", "slim"]


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
    """nn.MaxPool2d, values and gradient bit by bit, on a fifth of the memory for binary maps; no second derivative."""

    def forward(self, x: Tensor) -> Tensor:
        if not (torch.is_grad_enabled() and x.requires_grad):
            return super().forward(x)  # type: ignore[no-any-return]
        pairs = [_pair(v) for v in (self.kernel_size, self.stride, self.padding, self.dilation)]
        return _Pool.apply(x, (*pairs, self.ceil_mode))  # type: ignore[no-any-return, no-untyped-call]


def _pair(size: int | tuple[int, ...]) -> list[int]:
    return [size, size] if isinstance(size, int) else list(size)


def slim(pool: nn.Module) -> nn.Module:
    """The slim form of a plain nn.MaxPool2d; any other layer as it is."""
    if type(pool) is not nn.MaxPool2d or pool.return_indices:
        return pool
    found = SlimMaxPool2d(pool.kernel_size, pool.stride, pool.padding, pool.dilation, ceil_mode=pool.ceil_mode)
    return found.train(pool.training)
