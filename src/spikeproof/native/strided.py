"""Convolutions that step over pixels, in C, of channels-last maps in float32 on a CPU."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from spikeproof.native import compiled
from spikeproof.native.convolution import Pair, described, outputs

__all__ = ["matrices", "steppable", "strided", "strided_weight"]

_PANEL = 32
"""Numbers of a line of a matrix: two registers of the widest processors. Channels are a multiple of it."""


def steppable(x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> bool:
    """Whether maps (N,C,H,W) can go this way through a weight (K,C,k,k), and their gradient back: more than one pixel a
    step, a multiple of 32 channels before and behind, and no autocast."""
    kind = x.dtype == weight.dtype == torch.float32 and x.device.type == weight.device.type == "cpu"
    if not kind or max(stride) < 2 or x.dim() != 4 or not x.numel() or x.shape[1] != weight.shape[1]:
        return False
    whole = not any(count % _PANEL for count in weight.shape[:2]) and weight.numel() > 0 and min(padding) >= 0
    some = min(outputs(x.shape[2:], weight.shape[2:], stride, padding)) > 0
    return whole and some and not torch.is_autocast_enabled("cpu") and compiled() is not None


def matrices(weight: Tensor, *, back: bool) -> Tensor:
    """A weight (K,C,k,k) that is `steppable` as a matrix a tap: (k^2,K / 32,C,32), or with `back` (k^2,C / 32,K,32),
    for what takes the gradient of the results to that of the maps."""
    behind, before = (1, 0) if back else (0, 1)
    taps = weight.detach().flatten(2).permute(2, behind, before)
    return taps.reshape(len(taps), -1, _PANEL, taps.shape[2]).transpose(2, 3).contiguous()


def strided(
    x: Tensor, known: Tensor, maps: tuple[int, ...], weight: tuple[int, ...], bias: Tensor | None, stride: Pair,
    padding: Pair, *, back: bool
) -> Tensor:  # fmt: skip
    """Maps (N,C,H,W), a shape of that name, through `matrices` of a weight (K,C,k,k), a shape too, and a bias (K,) ->
    (N,K,H',W'), channels-last. With `back` x is the gradient of that result, and what comes is that of the maps.
    MemoryError where the rows of a block find no room."""
    x = x.detach().contiguous(memory_format=torch.channels_last)
    bias = None if bias is None else bias.detach().to(x).contiguous()
    shape = maps if back else (maps[0], weight[0], *outputs(maps[2:], weight[2:], stride, padding))
    out = torch.empty(shape, dtype=x.dtype, device="cpu", memory_format=torch.channels_last)
    given = ctypes.byref(described(maps, weight, stride, padding)), ctypes.c_int32(back), _threads(x, out)
    pointers = (ctypes.c_void_p(None if each is None else each.data_ptr()) for each in (x, known, bias, out))
    if not compiled().spikeproof_strided(*given, *pointers):
        raise MemoryError("no memory for the images of one block")
    return out


def strided_weight(maps: Tensor, upstream: Tensor, weight: tuple[int, ...], stride: Pair, padding: Pair) -> Tensor:
    """Maps (N,C,H,W) and the gradient of what such a convolution makes of them (N,K,H',W') -> that of its weight, of
    the shape (K,C,k,k). MemoryError where images and sums find no room."""
    maps, upstream = (x.detach().contiguous(memory_format=torch.channels_last) for x in (maps, upstream))
    out = torch.empty(weight, dtype=maps.dtype, device="cpu")
    if not len(maps):
        return out.zero_()
    given = ctypes.byref(described(maps.shape, weight, stride, padding)), _threads(maps)
    pointers = (ctypes.c_void_p(each.data_ptr()) for each in (maps, upstream, out))
    if not compiled().spikeproof_strided_weight(*given, *pointers):
        raise MemoryError("no memory for the images of a weight's gradient")
    return out


def _threads(*maps: Tensor) -> ctypes.c_int32:
    """Few numbers are not worth waking a thread."""
    return ctypes.c_int32(torch.get_num_threads() if max(x.numel() for x in maps) > 1 << 15 else 1)
