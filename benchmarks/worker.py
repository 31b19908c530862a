"""One contender in a process of its own: a line in, a line out.

    python -m benchmarks.worker CONTENDER KIND WORK BATCH STEPS THREADS DEVICE

It makes the reference network, then builds its job, runs it once, and prints the seconds that the last two took:
compiling and other first-time work is in there. Then each line 'run' is answered with the seconds of one run, and
'memory' with two peaks above the start of one more run, in MB: of what tensors hold, which is exact, and of what is
resident (Linux with glibc; memory that the allocator holds free is given back before). On a GPU a run ends when the
device has done it; resident is there what the allocator has taken of the device.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path


def _resident(field: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise OSError(f"no {field} in /proc/self/status: memory is measured on Linux alone")


def _peaks(once: Callable[[], object]) -> tuple[float, float]:
    """MB above the start of a run: the most that tensors hold, and the most that is resident."""
    from torch.profiler import ProfilerActivity, profile

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is that of from now on
    before = _resident("VmRSS")
    once()
    resident = _resident("VmHWM") - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        once()
    held = most = 0
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most / 2**20, resident


def _peaks_of_device(once: Callable[[], object]) -> tuple[float, float]:
    import torch

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    held, taken = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    once()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - held) / 2**20, (torch.cuda.max_memory_reserved() - taken) / 2**20


def main() -> None:
    warnings.simplefilter("ignore")
    contender, kind, work, batch, steps, threads, device = sys.argv[1:]
    import torch

    from benchmarks import networks
    from benchmarks.jobs import job
    from spikeproof.study.run import Machine

    torch.set_num_threads(int(threads))
    gpu = device != "cpu"
    if gpu:
        Machine(device).settle()  # full single precision for every contender

    def timed(once: Callable[[], object]) -> float:
        start = time.perf_counter()
        once()
        if gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    with torch.device(device):
        networks.ours(work, int(steps))
    start = time.perf_counter()
    with torch.device(device):
        once = job(contender, kind, work, int(batch), int(steps))
    timed(once)
    print(time.perf_counter() - start, flush=True)
    for line in sys.stdin:
        if line.strip() == "memory":
            print(*(_peaks_of_device if gpu else _peaks)(once), flush=True)
        else:
            print(timed(once), flush=True)


if __name__ == "__main__":
    main()
