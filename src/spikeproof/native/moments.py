"""Sums over each map and over its squares, in double precision, in C: what a deviation needs, in one pass."""

from __future__ import annotations

import ctypes
from math import prod

import torch
from torch import Tensor

from spikeproof.native import compiled

__all__ = ["moments"]


def moments(maps: Tensor) -> tuple[Tensor, Tensor] | None:
    """Maps (N,C,...) in float32 on the CPU -> the sums of each and of its squares, (N,C) in float64; None of others, of
    maps in another order than channel after channel or channels-last, and where there is no library."""
    if maps.dtype != torch.float32 or maps.device.type != "cpu" or maps.dim() < 3 or not maps.numel():
        return None
    last = maps.dim() == 4 and maps.is_contiguous(memory_format=torch.channels_last)
    if not (last or maps.is_contiguous()) or not compiled():
        return None
    sums, squares = torch.empty(2, *maps.shape[:2], dtype=torch.float64, device="cpu")
    threads = torch.get_num_threads() if maps.numel() > 1 << 15 else 1
    compiled().spikeproof_moments(
        *(ctypes.c_int64(n) for n in (*maps.shape[:2], prod(maps.shape[2:]))), ctypes.c_int32(last),
        ctypes.c_int32(threads), *(ctypes.c_void_p(each.data_ptr()) for each in (maps, sums, squares)),
    )  # fmt: skip
    return sums, squares
