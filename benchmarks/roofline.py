"""`python -m benchmarks.roofline`: where an input gradient's time goes, and what this processor could do at best.

The peak of the arithmetic (a large product or convolution in float32, whichever is quicker) and of the memory (a large
copy) are measured here, before and after, in the same process and on as many threads. Then a pass of spikeproof over W1
is profiled. Every convolution, product of matrices (which a convolution is that sees its whole map) and scan stands
beside what it must compute and move: its floor is the larger of FLOP over one peak and bytes over the other. Tensors
are counted once each, as if caches held nothing in between, and the floor of everything else is 0. A convolution by
tiles or by steps counts as the taps that see a pixel, one by tables as all of them; by tiles and by tables it does
fewer on most maps, and may be below that floor. Medians over `--rounds` passes; writes its table in
`docs/performance.md`, where W1 was asked.
"""

from __future__ import annotations

import argparse
import datetime
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from statistics import fmean
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import networks
from benchmarks.jobs import job
from benchmarks.page import processor, written
from spikeproof.layers import few, strided, winograd
from spikeproof.native.convolution import Pair, outputs
from spikeproof.native.few import few_backward
from spikeproof.native.strided import strided as by_steps
from spikeproof.native.two_valued import looked_up
from spikeproof.native.winograd import convolved

__all__ = ["Peak", "Spent", "by_operation", "convolutions"]

MARKS = ("<!-- made by benchmarks.roofline -->", "<!-- end of the roofline -->")


@dataclass(frozen=True)
class Peak:
    """What the processor does at best: FLOP and bytes a second."""

    flops: float
    bandwidth: float

    def floor_ms(self, flop: float, moved: float) -> float:
        return 1e3 * max(flop / self.flops, moved / self.bandwidth)


class Spent(NamedTuple):
    """One kind of operation in one pass: calls, milliseconds, FLOP, and bytes that must be read or written."""

    calls: int
    ms: float
    flop: float
    moved: float


def _best(once: Callable[[], object], rounds: int = 7) -> float:
    """Seconds of the quickest."""
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        once()
        found.append(time.perf_counter() - start)
    return min(found)


def peak() -> Peak:
    """Of a large product and a large convolution the better, which come from different libraries."""
    a, b = torch.rand(2048, 2048), torch.rand(2048, 2048)
    maps, weight = (
        each.contiguous(memory_format=torch.channels_last)
        for each in (torch.rand(64, 64, 32, 32), torch.rand(64, 64, 3, 3))
    )
    flops = (
        2 * 2048**3 / _best(lambda: torch.mm(a, b)),
        2 * 9 * 64 * maps.numel() / _best(lambda: torch.conv2d(maps, weight, padding=1)),
    )
    x, y = torch.rand(2**26), torch.empty(2**26)
    return Peak(max(flops), 2 * x.nbytes / _best(lambda: y.copy_(x)))


Shapes = tuple[tuple[int, ...], ...]


class _Met(TorchDispatchMode):
    """(input, weight) of each convolution that is called under it -> FLOP and bytes of one call, either way."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[Shapes, tuple[float, float]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default:
            given, weight = args[:2]
            flop = 2.0 * out.numel() * prod(weight.shape[1:])
            moved = 4.0 * (given.numel() + weight.numel() + out.numel())
            self.found[tuple(given.shape), tuple(weight.shape)] = (flop, moved)
        return out


def convolutions(once: Callable[[], object]) -> dict[Shapes, tuple[float, float]]:
    """(input, weight) of each convolution of a pass -> FLOP and bytes of one call forward; backwards to its input it
    needs as many. Of those by steps too, and on the way back (gradient of the results, weight). Of those by tiles
    (input,), with the FLOP of all taps that see a pixel: more than they do. Of the first layer the gradient at its
    maps, ((), gradient of the results), and what is looked up, ((), (), input), with the FLOP of all taps."""
    by_tiles: dict[Shapes, list[tuple[float, float]]] = defaultdict(list)

    def seen(x: Tensor, found: Tensor, bias: Tensor | None) -> Tensor:
        out = convolved(x, found, bias)
        moved = 4.0 * (x.numel() + found.numel() + out.numel())
        taps = prod(3 * side - 2 for side in x.shape[2:])  # of all pixels of a map
        by_tiles[(tuple(x.shape),)].append((2.0 * len(x) * found.shape[1] * x.shape[1] * taps, moved))
        return out

    first: dict[Shapes, tuple[float, float]] = {}

    def back(upstream: Tensor, weight: Tensor, *rest: Any) -> Tensor:
        out = few_backward(upstream, weight, *rest)
        moved = 4.0 * (upstream.numel() + weight.numel() + out.numel())
        first[(), tuple(upstream.shape)] = 2.0 * upstream.numel() * prod(weight.shape[1:]), moved
        return out

    def forth(x: Tensor, known: Tensor, weight: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        out, fit = looked_up(x, known, weight, *rest)
        moved = 4.0 * (x.numel() + weight.numel() + out.numel())
        first[(), (), tuple(x.shape)] = 2.0 * out.numel() * prod(weight.shape[1:]), moved
        return out, fit

    def stepped(
        x: Tensor, known: Tensor, maps: tuple[int, ...], weight: tuple[int, ...], *rest: Any, **way: Any
    ) -> Tensor:
        out = by_steps(x, known, maps, weight, *rest, **way)
        _, stride, padding = rest
        moved = 4.0 * (x.numel() + known.numel() + out.numel())
        first[tuple(x.shape), tuple(weight)] = (
            2.0 * len(x) * prod(weight[:2]) * _taps(maps, weight, stride, padding),
            moved,
        )
        return out

    ours = patch.multiple(few, few_backward=back, looked_up=forth)
    with _Met() as met, patch.object(winograd, "convolved", seen), patch.object(strided, "strided", stepped), ours:
        once()
    # Forth and back, and whatever is behind maps of one shape: calls are told apart by that shape alone.
    means = {shape: (fmean(flop for flop, _ in each), fmean(b for _, b in each)) for shape, each in by_tiles.items()}
    return met.found | means | first


def _taps(maps: tuple[int, ...], weight: tuple[int, ...], stride: Pair, padding: Pair) -> int:
    """Of all results of a map (,,H,W): how many taps of a weight (,,k,k) see a pixel, and not the zeros around."""
    along = outputs(maps[2:], weight[2:], stride, padding)
    return prod(
        sum(
            0 <= at * stride[i] - padding[i] + tap < maps[2 + i]
            for at in range(along[i])
            for tap in range(weight[2 + i])
        )
        for i in (0, 1)
    )


_SCANS = {"_Scan": 2, "_ScanBackward": 3}
"""Tensors of the layer's size that a scan reads or writes."""

_POOLS = ("max_pool2d", "_Pool", "avg_pool", "adaptive_avg")


def by_operation(once: Callable[[], object], known: dict[Shapes, tuple[float, float]]) -> dict[str, Spent]:
    """One pass, profiled: name -> what was spent; each operation without those that it calls, so that they add up."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
        once()
    sums: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0, 0.0])
    for event in seen.key_averages(group_by_input_shape=True):
        shapes = tuple(tuple(shape) for shape in event.input_shapes if shape)
        name, flop, moved = _named(event.key, shapes, known)
        calls = event.count if flop or moved else 0
        for i, value in enumerate((calls, event.self_cpu_time_total / 1e3, flop * event.count, moved * event.count)):
            sums[name][i] += value
    return {name: Spent(int(calls), ms, flop, moved) for name, (calls, ms, flop, moved) in sums.items()}


def _named(key: str, shapes: Shapes, known: dict[Shapes, tuple[float, float]]) -> tuple[str, float, float]:
    """What an operation is called here, and FLOP and bytes of one call of it."""
    if key == "aten::mkldnn_convolution" and shapes[:2] in known:
        return f"forward {_layer(*shapes[:2])}", *known[shapes[:2]]
    if key == "aten::convolution_backward" and shapes[1:3] in known:
        return f"backward {_layer(*shapes[1:3])}", *known[shapes[1:3]]
    if key == "_ByTiles" and shapes[:1] in known:
        channels, *size = shapes[0][1:]
        return f"by tiles, {channels}, 3x3, on {size[0]}x{size[1]}", *known[shapes[:1]]
    if key == "_BySteps" and shapes[:2] in known:
        given, weight = shapes[:2]
        channels, size = f"{given[1]} to {weight[given[1] == weight[0]]}", f"{given[2]}x{given[3]}"
        return f"by steps, {channels}, {weight[2]}x{weight[3]}, from {size}", *known[shapes[:2]]
    if key == "_BackToFew" and ((), *shapes[:1]) in known:
        channels, *size = shapes[0][1:]
        return f"backward from {channels}, on {size[0]}x{size[1]}, to few channels", *known[(), shapes[0]]
    if key == "_OfFew" and ((), (), *shapes[:1]) in known:
        channels, *size = shapes[0][1:]
        return f"forward by tables, {channels}, on {size[0]}x{size[1]}", *known[(), (), shapes[0]]
    if "convolution" in key:
        return "convolutions: what is around them", 0.0, 0.0
    if key in ("aten::addmm", "aten::mm"):
        (n, k), (_, m) = shapes[-2:]
        return f"product, {n}x{k} by {k}x{m}", 2.0 * n * k * m, 4.0 * (n * k + k * m + n * m)
    if key in _SCANS and shapes:
        return f"scan {'back' if 'Back' in key else 'forth'}", 0.0, 4.0 * _SCANS[key] * prod(shapes[0])
    if any(word in key for word in _POOLS):
        return "pools", 0.0, 0.0
    return "everything else", 0.0, 0.0


def _layer(given: tuple[int, ...], weight: tuple[int, ...]) -> str:
    return f"{weight[1]} to {weight[0]}, {weight[2]}x{weight[3]}, on {given[2]}x{given[3]}"


def table(passes: list[dict[str, Spent]], best: Peak) -> str:
    """As Markdown: medians over the passes."""
    lines = ["| operation | calls | ms | GFLOP | MB | floor, ms | over its floor |", "| --- " * 7 + "|"]
    whole = statistics.median(sum(of.ms for of in one.values()) for one in passes)
    names, least = sorted(passes[0], key=lambda name: (name.split(" ")[0], -passes[0][name].ms)), 0.0
    for name in names:
        ms = statistics.median(one[name].ms for one in passes if name in one)
        calls, _, flop, moved = passes[0][name]
        floor = best.floor_ms(flop, moved)
        least += floor
        over = f"{ms / floor:.1f}" if floor else ""
        lines.append(
            f"| {name} | {calls or ''} | {ms:.1f} | {flop / 1e9:.2f} | {moved / 1e6:.1f} | {floor:.1f} | {over} |"
        )
    lines.append(f"| all | | {whole:.1f} | | | {least:.1f} | {whole / least:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", default="W1", choices=networks.SHAPES)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    best, once = peak(), job("spikeproof", "input_gradient", asked.work, asked.batch, 10)
    known = convolutions(once)
    once()
    alone = statistics.median(_best(once, 1) for _ in range(asked.rounds))
    passes = [by_operation(once, known) for _ in range(asked.rounds)]
    again = peak()  # a slow moment of the machine is not its best
    best = Peak(max(best.flops, again.flops), max(best.bandwidth, again.bandwidth))
    told = (
        f"`python -m benchmarks.roofline`, {datetime.datetime.now(datetime.UTC).date().isoformat()}: {asked.work}, "
        f"B = {asked.batch}, T = 10, {asked.threads} threads, {processor()}, {os.cpu_count()} cores, torch "
        f"{torch.__version__}, medians of {asked.rounds} passes: {1e3 * alone:.1f} ms without the profiler; at best "
        f"{best.flops / 1e9:.0f} GFLOP/s and {best.bandwidth / 1e9:.1f} GB/s.\n\n{table(passes, best)}"
    )
    print(told)
    if asked.work == "W1":
        written(told, MARKS)


if __name__ == "__main__":
    main()
