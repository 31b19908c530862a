"""The scan of a spiking layer over time on a GPU, in Triton: what `scan.c` beside this file does, a neuron a lane.

Imported only where a tensor is on a GPU; Triton comes with torch there. Every operation is the one that torch does on
the same device, in the same order (no contraction), so spikes are equal bit by bit to the plain form's there.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["scan", "scan_backward"]

_BLOCK = 512
"""Neurons a program: four a thread."""


@triton.jit
def _charge(v, x, leak, rest, CHARGE: tl.constexpr):  # type: ignore[no-untyped-def]
    if CHARGE == "add":
        return v + x
    elif CHARGE == "leak":
        return v - (v - rest) * leak + x
    else:
        return v + (x - (v - rest)) * leak


@triton.jit
def _settle(v, s, threshold, reset, RESET: tl.constexpr):  # type: ignore[no-untyped-def]
    if RESET == "soft":
        return v - threshold * s
    elif RESET == "zero":
        return (1.0 - s) * v
    else:
        return (1.0 - s) * v + reset * s


@triton.jit
def _slope(h, alpha, KIND: tl.constexpr):  # type: ignore[no-untyped-def]
    if KIND == "atan":
        scaled = h * (1.57079632679 * alpha)
        return (alpha / 2.0) / (1.0 + scaled * scaled)
    elif KIND == "sigmoid":
        e = tl.exp(-tl.abs(alpha * h))
        return alpha * e / ((1.0 + e) * (1.0 + e))
    elif KIND == "triangle":
        return alpha * tl.maximum(1.0 - alpha * tl.abs(h), 0.0)
    elif KIND == "rectangle":
        return tl.where(tl.abs(alpha * h) < 1.0, alpha / 2.0, 0.0)
    else:
        return alpha * 0.398942280401 * tl.exp(-0.5 * (alpha * h) * (alpha * h))


@triton.jit(do_not_specialize=["steps"])
def _forward(  # type: ignore[no-untyped-def]
    x, spikes, bad, steps, n, leak, threshold, reset, rest,
    CHARGE: tl.constexpr, RESET: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    lane = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = lane < n
    v = tl.zeros([BLOCK], tl.float32) + rest
    for _ in range(steps):
        v = _charge(v, tl.load(x + lane, mask=there, other=0.0), leak, rest, CHARGE)
        s = tl.where(v - threshold >= 0.0, 1.0, 0.0)
        tl.store(spikes + lane, s, mask=there)
        v = _settle(v, s, threshold, reset, RESET)
        x += n
        spikes += n
    lost = tl.sum(tl.where(there & (v - v != 0.0), 1, 0), axis=0)  # v - v is 0 for a finite number, else NaN
    if lost > 0:
        tl.store(bad, 1)


@triton.jit(do_not_specialize=["steps"])
def _backward(  # type: ignore[no-untyped-def]
    x, upstream, out, steps, n, leak, threshold, reset, rest, alpha, a, b,
    CHARGE: tl.constexpr, RESET: tl.constexpr, KIND: tl.constexpr, THROUGH_RESET: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Heights are computed again and lie in `out` until their step's gradient takes their place."""
    lane = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = lane < n
    v = tl.zeros([BLOCK], tl.float32) + rest
    for _ in range(steps):
        v = _charge(v, tl.load(x + lane, mask=there, other=0.0), leak, rest, CHARGE)
        h = v - threshold
        tl.store(out + lane, h, mask=there)
        v = _settle(v, tl.where(h >= 0.0, 1.0, 0.0), threshold, reset, RESET)
        x += n
        out += n
        upstream += n
    tl.debug_barrier()  # what one thread has written another may read
    later = tl.zeros([BLOCK], tl.float32)
    for _ in range(steps):
        out -= n
        upstream -= n
        h = tl.load(out + lane, mask=there, other=0.0)
        d = _slope(h, alpha, KIND)
        if RESET == "soft":
            kept = tl.full([BLOCK], 1.0, tl.float32)
            if THROUGH_RESET:
                kept -= threshold * d
        else:
            kept = tl.where(h < 0.0, 1.0, 0.0)
            if THROUGH_RESET:
                kept -= (h + (threshold - reset)) * d
        later = tl.load(upstream + lane, mask=there, other=0.0) * d + a * kept * later
        tl.store(out + lane, b * later, mask=there)


def _membrane(neuron: Any) -> dict[str, Any]:
    # On a GPU torch divides by a number by multiplying with its reciprocal, taken in double precision.
    leak = 1.0 / neuron.leak if neuron.charge.startswith("leak_div") else neuron.leak
    charge = {"add": "add", "leak_div": "both", "leak_mul": "both"}.get(neuron.charge, "leak")
    kind = "soft" if neuron.v_reset is None else "zero" if neuron.v_reset == 0.0 else "hard"
    rest = neuron.v_reset or 0.0
    return {
        "leak": leak, "threshold": neuron.v_threshold, "reset": rest, "rest": rest,
        "CHARGE": charge, "RESET": kind, "BLOCK": _BLOCK, "enable_fp_fusion": False,
    }  # fmt: skip


def scan(neuron: Any, x: Tensor) -> tuple[Tensor, bool]:
    """As `native.scan`, of currents (T,B,*) in a dense order."""
    spikes, bad = torch.empty_like(x), torch.zeros(1, dtype=torch.int32, device=x.device)
    n = x.numel() // len(x)
    _forward[(triton.cdiv(n, _BLOCK),)](x, spikes, bad, len(x), n, **_membrane(neuron))
    return spikes, not bool(bad)


def scan_backward(neuron: Any, slope: Any, x: Tensor, upstream: Tensor) -> Tensor:
    """As `native.scan_backward`, of two tensors in the same dense order."""
    out = torch.empty_like(x)
    n = x.numel() // len(x)
    a, b = slope.gains
    _backward[(triton.cdiv(n, _BLOCK),)](
        x, upstream, out, len(x), n, alpha=slope.alpha, a=a if slope.through_time else 0.0, b=b,
        KIND=slope.kind, THROUGH_RESET=slope.through_reset, **_membrane(neuron),
    )  # fmt: skip
    return out
