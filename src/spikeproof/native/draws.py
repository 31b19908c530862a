"""The hash behind every draw, and draws as floats, in C: the same bits as in torch, in one call for a dozen."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from spikeproof.native import compiled

__all__ = ["drawable", "draws", "mixed"]


def drawable(words: Tensor) -> bool:
    """Whether words can go this way: contiguous int64 on a CPU, in a tensor that is torch's own and has a memory."""
    if type(words) is not Tensor or torch._C._functorch.is_functorch_wrapped_tensor(words):  # as in torch.func.vmap
        return False
    kind = words.dtype == torch.int64 and words.device.type == "cpu" and words.is_contiguous() and words.numel() > 0
    return kind and compiled() is not None


def mixed(words: Tensor) -> Tensor:
    """`drawable` words -> their hashes, of the same shape."""
    out = torch.empty_like(words)
    compiled().spikeproof_mixed(
        ctypes.c_int64(words.numel()), ctypes.c_void_p(words.data_ptr()), ctypes.c_void_p(out.data_ptr())
    )
    return out


def draws(keys: Tensor, each: int, bits: int, start: float, slope: float) -> Tensor:
    """`drawable` keys (B,) -> start + slope * the first bits (24 at most) of each word of their streams: (B,each) in
    float32."""
    out = torch.empty(len(keys), each, dtype=torch.float32, device="cpu")
    threads = torch.get_num_threads() if out.numel() > 1 << 15 else 1
    compiled().spikeproof_draws(
        ctypes.c_int64(len(keys)), ctypes.c_int64(each), ctypes.c_int32(bits), ctypes.c_int32(threads),
        ctypes.c_float(start), ctypes.c_float(slope), ctypes.c_void_p(keys.data_ptr()), ctypes.c_void_p(out.data_ptr()),
    )  # fmt: skip
    return out
