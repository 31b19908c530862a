"""One contender in a process of its own: a line in, a line out.

    python -m benchmarks.worker CONTENDER KIND WORK BATCH STEPS THREADS

It builds its job, runs it once, and prints the seconds that took: compiling and other first-time work is in there. Then
each line 'run' is answered with the seconds of one run, and 'memory' with two peaks above the start of one more run, in
MB: of what tensors hold, which is exact, and of what is resident (Linux with glibc; memory that the allocator
holds free is given back before).
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


def main() -> None:
    warnings.simplefilter("ignore")
    contender, kind, work, batch, steps, threads = sys.argv[1:]
    import torch

    from benchmarks.jobs import job

    torch.set_num_threads(int(threads))
    start = time.perf_counter()
    once = job(contender, kind, work, int(batch), int(steps))
    once()
    print(time.perf_counter() - start, flush=True)
    for line in sys.stdin:
        if line.strip() == "memory":
            print(*_peaks(once), flush=True)
            continue
        start = time.perf_counter()
        once()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
