"""The scan of a spiking layer over time in one pass over memory; torch's own where that cannot be built.

`scan` and `scan_backward` do what `neurons/_stepwise.py` and `rules/_fused.py` do in torch: spikes are equal bit by
bit, gradients to float tolerance; everything here is float32. On the CPU in C, built once for a machine (some
seconds) from `scan.c` beside this file (`_built.py`), together with what `pools.py`, `moments.py`, `draws.py`,
`taps.py`, `few.py`, `two_valued.py`, `strided.py` and `winograd.py` call; on a GPU in Triton (`_gpu.py`), which comes
with torch there. SPIKEPROOF_FAST=0 turns this and every other fast path off.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import logging
import os
import platform
import shutil
import subprocess
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from spikeproof.native._built import library
from spikeproof.native._neighbours import heed

__all__ = [
    "Charge", "Membrane", "Slope", "available", "compiled", "fast", "form", "heed_neighbours", "heights", "keep_memory",
    "scan", "scan_backward", "usable",
]  # fmt: skip

_LOG = logging.getLogger(__name__)

Charge = Literal["add", "leak_div", "leak_div_input", "leak_mul", "leak_mul_input"]
"""u = v + x; v + (x - (v - rest)) / k; v - (v - rest) / k + x; and the last two with * k."""

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""Of mallopt, from glibc's malloc.h."""

_CHARGES: tuple[Charge, ...] = ("add", "leak_div", "leak_div_input", "leak_mul", "leak_mul_input")
_KEPT = 256
"""Descriptions for C, which a network has a few of and asks for at each of its layers."""

_KINDS = ("atan", "sigmoid", "triangle", "rectangle", "gaussian")


class Membrane(NamedTuple):
    """A neuron's forward physics: how it charges (leak k), fires and resets; v_reset None is the soft reset."""

    charge: Charge
    leak: float
    v_threshold: float
    v_reset: float | None


class Slope(NamedTuple):
    """A surrogate's derivative by name and sharpness, which paths it takes, and (du/dv, du/dx) of the charge."""

    kind: str
    alpha: float
    through_time: bool
    through_reset: bool
    gains: tuple[float, float]


class _Membrane(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("charge", "hard")] + [
        (name, ctypes.c_float) for name in ("leak", "v_threshold", "v_reset", "v_rest")
    ]


class _Slope(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("kind", "through_time", "through_reset")] + [
        (name, ctypes.c_float) for name in ("alpha", "a", "b")
    ]


def fast() -> bool:
    """Whether fast paths may be taken: the environment's SPIKEPROOF_FAST is not 0."""
    return os.environ.get("SPIKEPROOF_FAST", "1") != "0"


def available() -> bool:
    """Whether the scan in C is there (building it, the first time) and not switched off."""
    return compiled() is not None


def compiled() -> Any:
    """The library in C; None where it cannot be built, or is switched off."""
    return _library() if fast() else None


def heed_neighbours() -> None:
    """From time to time: have threads that wait for each other sleep at once while other processes want the cores."""
    library = compiled()
    if library is not None:
        heed(library)


@functools.cache
def keep_memory() -> None:
    """Have glibc keep freed memory for the next pass, up to 2 GiB, instead of giving it back to the system each time.

    Every pass asks for the same maps again; a page given back is zeroed and mapped anew at its first touch, a good part
    of the time of a pass on large maps. Before 2.35 glibc keeps only what was asked for in pieces of 32 MiB or less.
    For the whole process; does nothing under another C library, or switched off.
    """
    if fast() and platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        # Where neither is taken, the other two would stop glibc from raising its own threshold of 128 KiB.
        if mallopt(_MMAP_THRESHOLD, 2**31 - 1) or mallopt(_MMAP_THRESHOLD, 2**25):
            mallopt(_TRIM_THRESHOLD, 2**31 - 1)
            mallopt(_TOP_PAD, 2**26)


@functools.cache
def _library() -> Any:
    """The library, or None where it cannot be built or loaded; the reason is logged once."""
    compiler = next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)
    if compiler is None or os.name != "posix":
        _LOG.info("no C compiler: spiking layers run in torch")
        return None
    reasons = []
    for threads in (("-fopenmp",), ()):  # a compiler without OpenMP still gives the scan, on one thread
        try:
            return library(compiler, threads)
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:  # RuntimeError: no more threads
            reasons.append(str(getattr(error, "stderr", None) or error).strip())
    _LOG.warning("the scan in C cannot be built, spiking layers run in torch: %s", "; ".join(reasons))
    return None


def _ordered(x: Tensor) -> Tensor:
    """x (T,B,*) itself where each step is one dense slab in whatever order (channels-last, say), and on a CPU also
    where all steps are the same slab (x[0] expanded), else a copy."""
    if x.is_contiguous():
        return x
    slab = x.numel() // x.shape[0]
    dense = torch.empty_like(x[0]).stride() == x.stride()[1:]
    follow = x.stride(0) == slab or (x.stride(0) == 0 and x.device.type == "cpu")
    return x if dense and follow else x.contiguous()


def _like(x: Tensor) -> Tensor:
    """Empty, of the shape and order of an `_ordered` x, each step with memory of its own."""
    return torch.empty_strided(x.shape, (x.numel() // x.shape[0], *x.stride()[1:]), dtype=x.dtype, device=x.device)


def _membrane(neuron: Membrane) -> _Membrane:
    """Of plain numbers, whatever numbers were given: a tensor may have another value the next time."""
    reset = None if neuron.v_reset is None else float(neuron.v_reset)
    return _known_membrane(neuron.charge, float(neuron.leak), float(neuron.v_threshold), reset)


@functools.lru_cache(maxsize=_KEPT)
def _known_membrane(charge: Charge, leak: float, v_threshold: float, v_reset: float | None) -> _Membrane:
    rest = 0.0 if v_reset is None else v_reset
    return _Membrane(_CHARGES.index(charge), v_reset is not None, leak, v_threshold, rest, rest)


def _slope(slope: Slope) -> _Slope:
    a, b = slope.gains
    return _known_slope(slope.kind, float(slope.alpha), slope.through_time, slope.through_reset, float(a), float(b))


@functools.lru_cache(maxsize=_KEPT)
def _known_slope(kind: str, alpha: float, through_time: bool, through_reset: bool, a: float, b: float) -> _Slope:
    return _Slope(_KINDS.index(kind), through_time, through_reset, alpha, a, b)


def _pointer(x: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(x.data_ptr())


def _sizes(x: Tensor) -> tuple[ctypes.c_int64, ctypes.c_int64, ctypes.c_int32, ctypes.c_int64]:
    """Steps, floats in one step, threads, floats from one step to the next; small layers are not worth waking a
    thread."""
    threads = torch.get_num_threads() if x.numel() > 1 << 15 else 1
    steps = x.shape[0]
    slab, apart = x.numel() // steps, x.stride(0) if steps > 1 else 0
    return ctypes.c_int64(steps), ctypes.c_int64(slab), ctypes.c_int32(threads), ctypes.c_int64(apart)


@functools.cache
def _on(device: torch.device) -> Any:
    """The scan in Triton, tried once on each device, or None where it is not there or does not run; the reason is
    logged."""
    try:
        module = importlib.import_module("spikeproof.native._gpu")
        with torch.cuda.device(device):
            one, neuron = torch.ones(1, 1, device=device), Membrane("add", 1.0, 1.0, 0.0)
            module.scan(neuron, one)
            module.scan_backward(neuron, Slope("atan", 2.0, True, False, (1.0, 1.0)), one, one)
    except ImportError as error:
        _LOG.info("no Triton, spiking layers on the GPU run in torch: %s", error)
    except torch.cuda.OutOfMemoryError:  # says nothing of Triton, and must not be remembered
        raise
    except Exception as error:  # whatever Triton, its compiler and the driver raise
        _LOG.warning("the scan in Triton does not run, spiking layers on the GPU run in torch: %s", error)
    else:
        return module
    return None


def usable(x: Tensor) -> bool:
    """Whether there is a scan for this tensor: float32 on the CPU or a GPU, not empty."""
    if x.dtype != torch.float32 or not x.numel():
        return False
    return available() if x.device.type == "cpu" else x.device.type == "cuda" and fast() and _on(x.device) is not None


def form(device: torch.device) -> str:
    """In what the scans of a device are written: 'C', 'Triton' or 'torch'."""
    if not usable(torch.empty(1, device=device)):
        return "torch"
    return "C" if device.type == "cpu" else "Triton"


def scan(neuron: Membrane, x: Tensor) -> tuple[Tensor, bool]:
    """Currents (T,B,*) of a `usable` tensor -> spikes (T,B,*), and whether every membrane ends at a finite number."""
    x = _ordered(x.detach())
    if x.is_cuda:
        with torch.cuda.device(x.device):
            return _on(x.device).scan(neuron, x)  # type: ignore[no-any-return]
    spikes = _like(x)
    return spikes, _forward(neuron, x, spikes, None)


def heights(neuron: Membrane, x: Tensor) -> tuple[Tensor, Tensor, bool]:
    """The same of a `usable` tensor on the CPU, with how far above the threshold each membrane was, (T,B,*)."""
    x = _ordered(x.detach())
    spikes, above = _like(x), _like(x)
    return spikes, above, _forward(neuron, x, spikes, above)


def _forward(neuron: Membrane, x: Tensor, spikes: Tensor, above: Tensor | None) -> bool:
    heed_neighbours()
    last = ctypes.c_void_p(None) if above is None else _pointer(above)
    given = ctypes.byref(_membrane(neuron)), *_sizes(x), _pointer(x), _pointer(spikes), last
    return bool(_library().spikeproof_forward(*given))


def scan_backward(neuron: Membrane, slope: Slope, x: Tensor, upstream: Tensor) -> Tensor:
    """Currents of `scan` and the gradient of its spikes, both (T,B,*) -> the gradient of the currents."""
    x = _ordered(x.detach())
    out = _like(x)
    if upstream.stride() != out.stride():
        upstream = _like(x).copy_(upstream)
    if x.is_cuda:
        with torch.cuda.device(x.device):
            return _on(x.device).scan_backward(neuron, slope, x, upstream)  # type: ignore[no-any-return]
    heed_neighbours()
    if not _library().spikeproof_backward(
        ctypes.byref(_membrane(neuron)), ctypes.byref(_slope(slope)), *_sizes(x),
        _pointer(x), _pointer(upstream), _pointer(out),
    ):  # fmt: skip
        raise MemoryError("no memory for the membranes of one chunk of neurons")
    return out
