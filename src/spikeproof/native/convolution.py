"""The sizes of a convolution, as what is written in C reads them."""

from __future__ import annotations

import ctypes

__all__ = ["Convolution", "Pair", "described", "outputs"]

Pair = tuple[int, int]


class Convolution(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            "images", "height", "width", "channels", "tall", "broad", "stride_down", "stride_across", "top", "left",
            "down", "across", "results",
        )
    ]  # fmt: skip


def outputs(size: tuple[int, ...], kernel: tuple[int, ...], stride: Pair, padding: Pair) -> Pair:
    """Results down and across, of maps (H,W) and a kernel (k,k)."""
    down = (size[0] + 2 * padding[0] - kernel[0]) // stride[0] + 1
    across = (size[1] + 2 * padding[1] - kernel[1]) // stride[1] + 1
    return max(down, 0), max(across, 0)


def described(maps: tuple[int, ...], weight: tuple[int, ...], stride: Pair, padding: Pair) -> Convolution:
    """Maps (N,C,H,W) and a weight (K,C,k,k), by their shapes; zeros before the maps as behind them."""
    images, channels, height, width = maps
    along = outputs((height, width), weight[2:], stride, padding)
    return Convolution(images, height, width, channels, *weight[2:], *stride, *padding, *along, weight[0])
