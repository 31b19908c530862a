"""One contender in a process of its own: a line in, a line out.

    python -m benchmarks.worker CONTENDER KIND WORK BATCH STEPS THREADS

It builds its job, runs it once, and prints the seconds that took: compiling and other first-time work is in there. Then each
line 'run' is answered with the seconds of one run, and 'memory' with the peak of resident memory above its start in one
more run, in MB (Linux with glibc: memory that the allocator holds free is given back before).
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


def _peak(once: Callable[[], object]) -> float:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is that of from now on
    before = _resident("VmRSS")
    once()
    return _resident("VmHWM") - before


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
            print(_peak(once), flush=True)
            continue
        start = time.perf_counter()
        once()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
