"""3x3 convolutions by Winograd's tiles in C, of channels-last maps in float32 on a CPU (Lavin and Gray, CVPR 2016)."""

from __future__ import annotations

import ctypes
from typing import Literal

import torch
from torch import Tensor

from spikeproof.native import compiled

__all__ = ["Points", "convolved", "kernels", "tileable", "weight_gradient"]

Points = Literal[3, 4, 6]
"""Of a line of a tile. 3: of maps of 2x2 pixels alone, 9 products for 16. 4: 4 for 9. Either rounds about as torch's
kernels do, less on maps of 4x4 and more. 6: 2.25 for 9 with some ten times that rounding, so not for spikes that are to
be another network's."""

_WHOLE = 32
"""Channels that fill two registers of the widest processors; their number is to be a multiple of it on every one."""


class _Maps(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("images", "height", "width", "channels", "results")]


class _Taps(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("results", "channels", "result", "channel", "row", "column")]


def tileable(x: Tensor, weight: Tensor) -> bool:
    """Whether maps (N,C,H,W) can go by tiles through a weight (K,C,k,k), and their gradient back: a 3x3 one, with a
    multiple of 32 channels before and behind, and no autocast."""
    kind = x.dtype == weight.dtype == torch.float32 and x.device.type == weight.device.type == "cpu"
    fit = x.dim() == 4 and x.numel() > 0 and weight.shape[2:] == (3, 3) and x.shape[1] == weight.shape[1]
    whole = not any(count % _WHOLE for count in weight.shape[:2])
    return kind and fit and whole and not torch.is_autocast_enabled("cpu") and compiled() is not None


def kernels(weight: Tensor, points: Points, *, back: bool) -> Tensor:
    """A weight (K,C,3,3) that is `tileable`, at the points of tiles: (points^2,K,C), in the order in which this
    processor reads it. back: of the convolution that takes the gradient of the results to that of the maps,
    (points^2,C,K)."""
    results, channels = weight.shape[:2]
    result, channel, row, column = weight.stride()
    first = weight.data_ptr()
    if back:  # channels and results change places, and the taps are read from the last to the first
        results, channels, result, channel = channels, results, channel, result
        first += 2 * (row + column) * weight.element_size()
        row, column = -row, -column
    found = torch.empty(points**2, results, channels, dtype=weight.dtype, device="cpu")
    taps = _Taps(results, channels, result, channel, row, column)
    threads = torch.get_num_threads() if weight.numel() > 1 << 15 else 1
    given = ctypes.c_int32(points), ctypes.byref(taps), ctypes.c_int32(threads)
    compiled().spikeproof_winograd_kernels(*given, ctypes.c_void_p(first), ctypes.c_void_p(found.data_ptr()))
    return found


def convolved(x: Tensor, found: Tensor, bias: Tensor | None) -> Tensor:
    """Maps (N,C,H,W) through `kernels` of C channels, stride 1 and one pixel of zeros around, and a bias (K,) ->
    (N,K,H,W), channels-last. MemoryError where a block's points find no room."""
    x = x.detach().contiguous(memory_format=torch.channels_last)
    bias = None if bias is None else bias.detach().to(x).contiguous()
    points, results = round(len(found) ** 0.5), found.shape[1]
    size = (x.shape[0], results, *x.shape[2:])
    out = torch.empty(size, dtype=x.dtype, device="cpu", memory_format=torch.channels_last)
    given = ctypes.c_int32(points), *_sizes(x, results)
    pointers = (ctypes.c_void_p(None if each is None else each.data_ptr()) for each in (x, found, bias, out))
    if not compiled().spikeproof_winograd(*given, *pointers):
        raise MemoryError("no memory for the tiles of one block")
    return out


def weight_gradient(maps: Tensor, upstream: Tensor, points: Points) -> Tensor:
    """Maps (N,C,H,W) and the gradient of what such a convolution makes of them (N,K,H,W) -> that of its weight
    (K,C,3,3). MemoryError where the points of some tiles find no room."""
    maps, upstream = (x.detach().contiguous(memory_format=torch.channels_last) for x in (maps, upstream))
    results, channels = upstream.shape[1], maps.shape[1]
    out = torch.empty(results, channels, 3, 3, dtype=maps.dtype, device="cpu")
    if not len(maps):
        return out.zero_()
    given = ctypes.c_int32(points), *_sizes(maps, results)
    pointers = (ctypes.c_void_p(each.data_ptr()) for each in (maps, upstream, out))
    if not compiled().spikeproof_winograd_weight(*given, *pointers):
        raise MemoryError("no memory for the tiles of a weight's gradient")
    return out


def _sizes(x: Tensor, results: int) -> tuple[object, ctypes.c_int32]:
    """Of maps (N,C,H,W), and threads: few numbers are not worth waking one."""
    maps = _Maps(x.shape[0], *x.shape[2:], x.shape[1], results)
    return ctypes.byref(maps), ctypes.c_int32(torch.get_num_threads() if x.numel() > 1 << 15 else 1)
