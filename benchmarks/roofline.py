"""`python -m benchmarks.roofline`: where an input gradient's time goes, and what this processor could do at best.

The peak of the arithmetic (a large product of matrices in float32) and of the memory (a large copy) are measured here,
in the same process and on as many threads. Then a pass of spikeproof over W1 is profiled. Every convolution and scan
stands beside what it must compute and move: its floor is the larger of FLOP over one peak and bytes over the other.
Tensors are counted once each, as if caches held nothing in between. What is computed in another way than torch's
convolution (small maps, as products of matrices) stands under everything else. Medians over `--rounds` passes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks import networks
from benchmarks.jobs import job
from benchmarks.page import processor
from spikeproof.tensors import exact, image_keys

__all__ = ["Peak", "Spent", "by_operation", "convolutions"]


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
    a, b = torch.rand(2048, 2048), torch.rand(2048, 2048)
    x, y = torch.rand(2**26), torch.empty(2**26)
    return Peak(2 * 2048**3 / _best(lambda: torch.mm(a, b)), 2 * x.nbytes / _best(lambda: y.copy_(x)))


Shapes = tuple[tuple[int, ...], ...]


def convolutions(work: str, batch: int, steps: int) -> dict[Shapes, tuple[float, float]]:
    """(input, weight) of each convolution of a network -> FLOP and bytes of one call forward; backwards to its input
    it needs as many."""
    victim, x, found = networks.ours(work, steps), networks.pixels(work, batch), dict[Shapes, tuple[float, float]]()

    def seen(module: nn.Module, given: tuple[Any, ...], out: torch.Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        flop = 2.0 * out.numel() * prod(module.weight.shape[1:])
        moved = 4.0 * (given[0].numel() + module.weight.numel() + out.numel())
        found[tuple(given[0].shape), tuple(module.weight.shape)] = (flop, moved)

    hooks = [m.register_forward_hook(seen) for m in victim.body.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        victim(x, exact, image_keys(0, torch.arange(batch)))
    for hook in hooks:
        hook.remove()
    return found


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
    if "convolution" in key:
        return "convolutions: what is around them", 0.0, 0.0
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
    names = sorted(passes[0], key=lambda name: (name.split(" ")[0], -passes[0][name].ms))
    for name in names:
        ms = statistics.median(one[name].ms for one in passes if name in one)
        calls, _, flop, moved = passes[0][name]
        floor = best.floor_ms(flop, moved)
        over = f"{ms / floor:.1f}" if floor else ""
        lines.append(
            f"| {name} | {calls or ''} | {ms:.1f} | {flop / 1e9:.2f} | {moved / 1e6:.1f} | {floor:.1f} | {over} |"
        )
    lines.append(f"| all | | {whole:.1f} | | | | |")
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
    known = convolutions(asked.work, asked.batch, 10)
    once()
    alone = statistics.median(_best(once, 1) for _ in range(asked.rounds))
    passes = [by_operation(once, known) for _ in range(asked.rounds)]
    print(
        f"{asked.work}, B = {asked.batch}, T = 10, {asked.threads} threads, {processor()}, torch "
        f"{torch.__version__}: {1e3 * alone:.1f} ms without the profiler; at best {best.flops / 1e9:.0f} GFLOP/s and "
        f"{best.bandwidth / 1e9:.1f} GB/s\n\n{table(passes, best)}"
    )


if __name__ == "__main__":
    main()
