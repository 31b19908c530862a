"""The convolution of maps that have no numbers but 0 and one other, by tables, in C; in float32 on a CPU."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from spikeproof.native import compiled
from spikeproof.native.convolution import Pair, described, outputs

__all__ = ["looked_up", "tabled", "tables", "two_valued"]

_LARGEST = 2**18
"""Numbers of all tables: they stay in the second-level cache."""

_LINES, _PIXELS, _WHOLE = 64, 64, 16
"""Lines of a kernel, and pixels of a line with what is around it, at most; results are a multiple of the last."""


def tabled(x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> bool:
    """Whether maps (N,C,H,W), were they of two values, can go by tables through a weight (K,C,k,k)."""
    kind = x.dtype == weight.dtype == torch.float32 and x.device.type == weight.device.type == "cpu"
    if not kind or x.dim() != 4 or not x.numel() or x.shape[1] != weight.shape[1]:
        return False
    results, channels, tall, broad = weight.shape
    down, across = outputs(x.shape[2:], weight.shape[2:], stride, padding)
    narrow = max(x.shape[3] + padding[1], (across - 1) * stride[1] + broad) <= _PIXELS and tall * channels <= _LINES
    small = tall * channels * results << broad <= _LARGEST
    whole = down * across > 0 and results % _WHOLE == 0 and min(padding) >= 0
    return narrow and small and whole and not torch.is_autocast_enabled("cpu") and compiled() is not None


def two_valued(x: Tensor) -> bool:
    """Whether x has no numbers but 0 and one other, which is finite."""
    others = x[x != 0]
    return bool((others == others[:1]).all()) and bool(others[:1].isfinite().all())


def tables(weight: Tensor) -> Tensor:
    """A weight (K,C,k,k) -> what each line of its taps adds to the results, by the bits that it sees, the first pixel
    the lowest: (k,C,2^k,K)."""
    broad = weight.shape[3]
    entries, places = (torch.arange(count, device="cpu") for count in (1 << broad, broad))
    bits = entries[:, None] >> places & 1
    found = torch.einsum("ej,kcij->icek", bits.double(), weight.detach().double().cpu())
    return found.to(weight.dtype).contiguous()


def looked_up(
    x: Tensor, known: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair
) -> tuple[Tensor, Tensor]:
    """Maps (N,C,H,W) by `tables` of a weight for which they are `tabled` -> (N,K,H',W'), channels-last, and of which
    images it is true, bool (N,): those that have no numbers but 0 and one other. MemoryError where an image's bits
    find no room."""
    x = x.detach().contiguous()
    size = outputs(x.shape[2:], weight.shape[2:], stride, padding)
    shape = (x.shape[0], weight.shape[0], *size)
    out = torch.empty(shape, dtype=x.dtype, device="cpu", memory_format=torch.channels_last)
    fit = torch.empty(len(x), dtype=torch.bool, device="cpu")
    bias = None if bias is None else bias.detach().to(x).contiguous()
    given = ctypes.byref(described(x.shape, weight.shape, stride, padding))
    threads = ctypes.c_int32(torch.get_num_threads() if out.numel() > 1 << 15 else 1)
    pointers = (ctypes.c_void_p(None if each is None else each.data_ptr()) for each in (x, known, bias, out, fit))
    if not compiled().spikeproof_two_valued(given, threads, *pointers):
        raise MemoryError("no memory for the bits of an image")
    return out, fit
