"""Max pools in C, of channels-last maps in float32 on the CPU: values and gradients bit by bit those of torch."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from spikeproof.native import compiled

__all__ = ["Window", "pool", "pool_backward", "poolable", "spread_backward"]


class Window(NamedTuple):
    """Kernel, stride and padding, each down and across."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    def result(self, size: torch.Size) -> tuple[int, int]:
        """Rows and columns of the pool of maps (N,C,H,W)."""
        rows, columns = ((s + 2 * p - k) // step + 1 for s, k, step, p in zip(size[-2:], *self, strict=True))
        return rows, columns


class _Window(ctypes.Structure):
    _fields_ = [(f"number{i}", ctypes.c_int64) for i in range(12)]


def poolable(x: Tensor, window: Window) -> bool:
    """Whether there is a pool in C for this tensor: channels-last, not empty, and no window without a pixel of it."""
    kind = x.dtype == torch.float32 and x.device.type == "cpu" and x.dim() == 4 and x.numel() > 0
    if not kind or not x.is_contiguous(memory_format=torch.channels_last):
        return False
    inside = all(0 <= 2 * p <= k and s >= 1 for k, s, p in zip(*window, strict=True))
    return (
        inside and window.kernel[0] * window.kernel[1] <= 256 and min(window.result(x.shape)) > 0 and bool(compiled())
    )


def pool(x: Tensor, window: Window, *, places: bool) -> tuple[Tensor, Tensor | None]:
    """Maps (N,C,H,W) that are `poolable` -> their maxima (N,C,H',W'), and where asked for the place of each in its
    window (N,C,H',W'), uint8; both channels-last."""
    size = torch.Size((*x.shape[:2], *window.result(x.shape)))
    out, where = _empty(size, torch.float32), _empty(size, torch.uint8) if places else None
    compiled().spikeproof_pool(*_given(x.shape, window), *map(_pointer, (x, out, where)))
    return out, where


def pool_backward(upstream: Tensor, where: Tensor, size: torch.Size, window: Window) -> Tensor:
    """The gradient of the maxima, their places, and the size of the maps -> the gradient of the maps, channels-last."""
    upstream = upstream.contiguous(memory_format=torch.channels_last)
    out = _empty(size, torch.float32)
    compiled().spikeproof_pool_backward(*_given(size, window), *map(_pointer, (upstream, where, out)))
    return out


def spread_backward(x: Tensor, out: Tensor, upstream: Tensor, window: Window) -> Tensor:
    """Maps that are `poolable`, their maxima, and the gradient of these -> the gradient of the maps, where each window
    divides its own between all its maxima; channels-last."""
    out, upstream = (each.contiguous(memory_format=torch.channels_last) for each in (out, upstream))
    share, found = torch.empty_like(upstream), _empty(x.shape, torch.float32)
    compiled().spikeproof_pool_spread(*_given(x.shape, window), *map(_pointer, (x, out, upstream, share, found)))
    return found


def _empty(size: torch.Size, dtype: torch.dtype) -> Tensor:
    return torch.empty(size, dtype=dtype, device="cpu", memory_format=torch.channels_last)


def _given(size: torch.Size, window: Window) -> tuple[object, ctypes.c_int32]:
    images, channels, height, width = size
    numbers = (images, height, width, channels, *window.result(size), *window.kernel, *window.stride, *window.padding)
    threads = torch.get_num_threads() if size.numel() > 1 << 15 else 1
    return ctypes.byref(_Window(*numbers)), ctypes.c_int32(threads)


def _pointer(x: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if x is None else x.data_ptr())
