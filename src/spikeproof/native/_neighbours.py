"""Whether threads that wait for each other sleep at once or look for work first, by what other processes leave them.

libgomp's threads, torch's and ours, look for their next work 300,000 times before they sleep: milliseconds. Where
cores are free that is right, for a core that sleeps, a virtual machine's above all, takes longer to wake than a small
layer takes to compute. Beside other processes it is wrong: who looks keeps the core from the thread that is waited
for. GOMP_SPINCOUNT would say it once for all, when torch loads libgomp; but libgomp looks only 100 times while it
manages more threads than there are processors (its manual, of that variable). So while threads of this process are
kept from the cores, some more are held, all asleep, as many as that takes (`neighbours.c`).

A user who has set GOMP_SPINCOUNT or OMP_WAIT_POLICY has said how threads wait: nothing is done then, nor where the
system does not tell for how long threads were kept waiting (Linux does), nor where OpenMP is another's than GCC's.
"""

from __future__ import annotations

import ctypes
import os
import threading
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import torch

__all__ = ["Crowd", "Heed", "heed"]

_EVERY = 0.05
"""Seconds between two looks at what threads were kept waiting, and of a core that they must have wanted meanwhile."""

_TIMES = 100
"""How many times what a look took passes until the next: with many threads they become rarer."""

_CROWDED, _FREE, _IN_A_ROW = 0.2, 0.05, 10
"""Shares of the time in which threads wanted a core and had none. Alone it is 0.00 to 0.03, beside one or two busy
processes 0.3 to 0.5, and 0.1 to 0.4 once threads sleep; the cores are free again after so many looks in a row."""

_TASKS = "/proc/self/task"


class Crowd:
    """Whether others want the cores too. Told from time to time for how many ns threads ran, and waited for a core."""

    def __init__(self) -> None:
        self.here = False
        self._free = 0

    def told(self, ran: float, waited: float) -> bool:
        """Of what is new since the last time."""
        share = waited / (ran + waited)
        self._free = self._free + 1 if share < _FREE else 0
        self.here = self._free < _IN_A_ROW if self.here else share > _CROWDED
        return self.here


class Heed:
    """One a process; called at every pass and scan, looks when it is time to, and does what is to be done."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        said = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys()
        self._wanted = not said and _times() is not None
        self._due, self._before, self._crowd = 0.0, (0, 0), Crowd()
        self._held: ctypes.c_void_p | None = None
        self._at_it = threading.Lock()

    @property
    def holding(self) -> bool:
        """Whether threads that wait sleep at once."""
        return self._held is not None

    def forked(self) -> None:
        """In a child, which has none of its parent's threads."""
        self._begin()

    def __call__(self, library: Any) -> None:
        start = monotonic()
        if start < self._due or not self._wanted or not self._at_it.acquire(blocking=False):
            return
        try:
            threads = torch.get_num_threads()
            if threads > 1 or self.holding:
                self._look(library, threads)
            now = monotonic()
            self._due = now + max(_EVERY, _TIMES * (now - start))
        finally:
            self._at_it.release()

    def _look(self, library: Any, threads: int) -> None:
        now = _times() or self._before
        ran, waited = (max(new - old, 0) for new, old in zip(now, self._before, strict=True))
        if ran + waited < 1e9 * _EVERY:
            return
        self._before = now
        if self._crowd.told(ran, waited) and not self.holding:
            handle = ctypes.c_void_p()
            self._wanted = bool(library.spikeproof_hold(ctypes.c_int32(threads), ctypes.byref(handle)))
            self._held = handle if self._wanted else None
        elif self.holding and not self._crowd.here:
            library.spikeproof_release(self._held)
            self._held = None


def _times() -> tuple[int, int] | None:
    """Nanoseconds that the threads of this process ran, and were ready to and did not; None where nobody tells."""
    ran = waited = 0
    try:
        for task in os.listdir(_TASKS):
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                one, other, _ = Path(_TASKS, task, "schedstat").read_bytes().split()
                ran, waited = ran + int(one), waited + int(other)
    except (OSError, ValueError):
        return None
    return (ran, waited) if ran else None


heed = Heed()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=heed.forked)
