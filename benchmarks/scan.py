"""One layer of IF neurons over time, forward and backward, in the forms that a scan can have.

    python -m benchmarks.scan [--device cuda] [--batch 16] [--rounds 15]

Prints medians in ms: spikeproof's own scan (in C, or in Triton on a GPU), torch step by step, and the same compiled by
torch, with the seconds that compiling took.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from spikeproof import native
from spikeproof.neurons.if_ import IF
from spikeproof.rules.atan import ATan
from spikeproof.tensors import graft, heaviside

MAPS, STEPS = (64, 16, 16), 10


def stepwise(x: Tensor) -> Tensor:
    """IF with ATan 2 as one would write it: currents (T,B,*) -> spikes (T,B,*)."""
    v, spikes = torch.zeros_like(x[0]), []
    for current in x:
        v = v + current
        height = v - 1.0
        spikes.append(graft(heaviside(height), torch.atan(torch.pi * height) / torch.pi))
        v = (1.0 - spikes[-1].detach()) * v
    return torch.stack(spikes)


def timed(scan: Callable[[Tensor], Tensor], x: Tensor, upstream: Tensor, rounds: int) -> float:
    """Median ms of a forward and backward, after three."""
    found = []
    for _ in range(rounds + 3):
        point = x.detach().requires_grad_()
        start = time.perf_counter()
        torch.autograd.grad(scan(point), point, upstream)
        if x.is_cuda:
            torch.cuda.synchronize()
        found.append(1e3 * (time.perf_counter() - start))
    return statistics.median(found[3:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    x, upstream = torch.randn(2, STEPS, options.batch, *MAPS, device=options.device)
    neuron, rule = IF(), ATan()
    print(f"{native.form(x.device)}: {timed(lambda z: rule(neuron, z, 'site'), x, upstream, options.rounds):.2f} ms")
    print(f"torch, step by step: {timed(stepwise, x, upstream, options.rounds):.2f} ms")
    compiled = torch.compile(stepwise)
    start = time.perf_counter()
    timed(compiled, x, upstream, 1)
    spent = time.perf_counter() - start
    print(f"torch, compiled: {timed(compiled, x, upstream, options.rounds):.2f} ms, after {spent:.1f} s")


if __name__ == "__main__":
    main()
