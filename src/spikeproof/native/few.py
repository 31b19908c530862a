"""The gradient of a convolution at maps of few channels in C, channels-last, in float32 on a CPU."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor
from torch.nn import functional as F

from spikeproof.native import compiled
from spikeproof.native.convolution import Pair, described, outputs

__all__ = ["few", "few_backward"]

_FEW = 8
"""Channels of the maps, up to which their own gradient is worth a way of its own."""

_WHOLE = 32
"""What lines of a matrix are a multiple of: two registers of the widest processors."""

_ROWS = 12
"""Results of an image at once, at least."""


def few(x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> bool:
    """Whether the gradient of maps (N,C,H,W) comes this way back through a weight (K,C,k,k): of few channels, no tiny
    results, and no autocast."""
    kind = x.dtype == weight.dtype == torch.float32 and x.device.type == weight.device.type == "cpu"
    if not kind or x.dim() != 4 or not x.numel() or not weight.numel() or not x.shape[1] == weight.shape[1] <= _FEW:
        return False
    down, across = outputs(x.shape[2:], weight.shape[2:], stride, padding)
    return down * across >= _ROWS and not torch.is_autocast_enabled("cpu") and compiled() is not None


def few_backward(upstream: Tensor, weight: Tensor, size: Pair, stride: Pair, padding: Pair) -> Tensor:
    """The gradient of results (N,K,H',W') through a weight (K,C,k,k) for which it is `few` -> that of the maps
    (N,C,H,W) of that size (H,W), channels-last. MemoryError where some rows find no room."""
    upstream = upstream.detach().contiguous(memory_format=torch.channels_last)
    rows = weight.detach().permute(0, 2, 3, 1).flatten(1)
    rows = F.pad(rows, (0, -rows.shape[1] % _WHOLE)).contiguous()
    shape = (upstream.shape[0], weight.shape[1], *size)
    out = torch.empty(shape, dtype=upstream.dtype, device="cpu", memory_format=torch.channels_last)
    threads = ctypes.c_int32(torch.get_num_threads() if upstream.numel() > 1 << 15 else 1)
    pointers = (ctypes.c_void_p(each.data_ptr()) for each in (upstream, rows, out))
    given = ctypes.byref(described(shape, weight.shape, stride, padding)), threads, ctypes.c_int64(rows.shape[1])
    if not compiled().spikeproof_few_backward(*given, *pointers):
        raise MemoryError("no memory for the gradient of a convolution")
    return out
