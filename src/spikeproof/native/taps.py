"""The taps of a kernel as rows of a matrix, and the gradient of the rows as that of the kernel, in C."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from spikeproof.native import compiled

__all__ = ["First", "from_rows", "rowable", "to_rows"]

First = Sequence[tuple[int, int]]
"""Of each result of a convolution the first tap, from the top and from the left, with which it sees the map."""


class _Kernel(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int64) for name in ("count", "channels", "height", "width", "down", "across", "results")
    ]


def rowable(kernel: Tensor) -> bool:
    """Whether a kernel (K,C,k,k) can go this way: contiguous, in float32 on a CPU."""
    kind = kernel.dtype == torch.float32 and kernel.device.type == "cpu" and kernel.dim() == 4 and kernel.numel() > 0
    return kind and kernel.is_contiguous() and compiled() is not None


def to_rows(kernel: Tensor, size: tuple[int, int], first: First) -> Tensor:
    """A kernel (K,C,k,k) that is `rowable` -> the taps with which each of R results sees a map of (H,W) pixels,
    (R K, H W C)."""
    count, channels = kernel.shape[:2]
    matrix = torch.empty(len(first) * count, size[0] * size[1] * channels, dtype=kernel.dtype, device="cpu")
    _between(kernel, matrix, size, first, back=False)
    return matrix


def from_rows(matrix: Tensor, kernel: Tensor, size: tuple[int, int], first: First) -> None:
    """The gradient of `to_rows`, into a kernel that is `rowable`: the sums over the results, and 0 at taps unseen."""
    _between(kernel, matrix.detach().contiguous(), size, first, back=True)


def _between(kernel: Tensor, matrix: Tensor, size: tuple[int, int], first: First, *, back: bool) -> None:
    described = _Kernel(*kernel.shape, *size, len(first))
    threads = ctypes.c_int32(torch.get_num_threads() if kernel.numel() > 1 << 15 else 1)
    where = (ctypes.c_int64 * (2 * len(first)))(*(place for pair in first for place in pair))
    pointers = (ctypes.c_void_p(each.data_ptr()) for each in (kernel, matrix))
    compiled().spikeproof_taps(ctypes.byref(described), threads, ctypes.c_int32(back), where, *pointers)
