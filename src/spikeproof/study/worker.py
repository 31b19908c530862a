"""A worker of a planned study, wherever it runs: takes the next free cell, until none is left for it.

Each cell runs in a process of its own, forked from this one, which has imported what cells need and never computes:
what kills it, as the system does when memory runs out, takes nothing but that cell with it. What was wrong with a cell
is left in the study's folder for `status`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import NamedTuple

import torch

from spikeproof.errors import SpikeproofError
from spikeproof.store import ending
from spikeproof.study.executor import Answer
from spikeproof.study.failures import forget_failure, note_failure
from spikeproof.study.handout import Handed, Handout, PlannedStore
from spikeproof.study.trained import Machine
from spikeproof.study.workers import Child, start
from spikeproof.training.train import Recipe

__all__ = ["Became", "Finished", "Worker", "is_free"]

_LOOK = 1.0
"""Seconds between two looks at cells that others are at."""


_AFTER_CHILD = 5.0
"""Seconds that this process goes on after the grace of the one that runs its cell."""


class Became(NamedTuple):
    """What became of a cell that this worker took; error: None where it is done."""

    name: str
    error: str | None
    seconds: float


class Finished(NamedTuple):
    """At the end of a worker: how many cells it has done, what failed, how many are left that did not fail here, and
    the signal at which it ended before its time, to be started again."""

    done: int
    failed: list[Became]
    left: int
    signalled: signal.Signals | None


def is_free(cell: Handed, store: PlannedStore) -> bool:
    """Whether nobody is at a cell that is not finished, nor at its network."""
    if store.locked(cell.key):
        return False
    if cell.model is None or store.model_folder(cell.model).is_dir():
        return True
    return not store.locked(f"model-{cell.model}")


class Worker:
    """One at a time of the cells of a plan.

    patience: seconds that cells are waited for that others are at, when there is nothing else to do; grace: seconds
    from a signal (`ending.SIGNALS`) until a cell is ended that has not written a batch meanwhile; trust: also run code
    of others that a configuration names.
    """

    def __init__(
        self, handout: Handout, root: Path, machine: Machine, *, patience: float, grace: float, trust: bool
    ) -> None:
        self._handout, self._machine, self._trust = handout, machine, trust
        self._store = PlannedStore.of(root, 0.0, handout.cells)
        self._patience, self._grace = patience, grace
        self._done, self._stuck = 0, False
        self._failed: list[Became] = []

    def run(self, cells: Sequence[Handed], tell: Callable[[Became], None]) -> Finished:
        """Every cell that is free, each told of when it ends; returns when all are finished, or failed here, or others
        have been at the rest for as long as there is patience. Ends early at a signal."""
        Recipe().build([torch.zeros(1, requires_grad=True)])  # imports a second's worth of torch: once, and here
        left, signalled = deque(cells), None
        try:
            with ending.listening(self._grace + _AFTER_CHILD):
                try:
                    self._all(left, tell)
                finally:
                    signalled = ending.heard()
        except ending.Stopped:
            pass
        return Finished(self._done, self._failed, len(left), None if self._stuck else signalled)

    def _all(self, left: deque[Handed], tell: Callable[[Became], None]) -> None:
        """Until nothing is left, or nothing but what others are at."""
        passed, since = 0, time.monotonic()
        while left:
            ending.check()
            cell = left[0]
            if (self._store.root / "cells" / cell.key).is_dir():
                passed, since = 0, time.monotonic()
                left.popleft()
            elif is_free(cell, self._store) and (became := self._take(cell)) is not None:
                tell(became)
                passed, since = 0, time.monotonic()
                left.popleft()
            else:
                left.rotate(-1)
                passed += 1
            if left and passed >= len(left):
                # Where a network is being trained elsewhere, its other cells are work to come.
                if all(self._store.locked(one.key) for one in left) and time.monotonic() - since >= self._patience:
                    return
                passed = 0
                time.sleep(_LOOK)

    def _take(self, cell: Handed) -> Became | None:
        """Run a cell; None where another one was quicker."""
        answer = self._answer(cell)
        if answer.cell is None and answer.error is None:
            return None
        became = Became(cell.name, answer.error, answer.seconds)
        if answer.error is None:
            self._done += 1
            forget_failure(self._store, cell.key)
        else:
            self._failed.append(became)
            note_failure(self._store, cell.key, answer.error)
        return became

    def _answer(self, cell: Handed) -> Answer:
        try:
            config = cell.config(self._handout.path, trust=self._trust)
        except SpikeproofError as error:
            return Answer(None, str(error), 0.0)
        before = _traces(cell, self._store)
        child = start(multiprocessing.get_context("fork"), config, False, self._store, self._machine, self._grace)
        try:
            answer = _watched(child)
        finally:
            child.process.kill()
            child.process.join()
        if answer.cell is None and answer.error is None and ending.heard() is not None:
            if ending.heard() == signal.SIGUSR1 and not self._done and _traces(cell, self._store) == before:
                return self._stuck_at(cell, answer.seconds)
            raise ending.Stopped
        return answer

    def _stuck_at(self, cell: Handed, seconds: float) -> Answer:
        """Of a cell at which a limit has come before anything was written, in all the time that this worker had: it
        would be no better the next time."""
        self._stuck = True
        mend = "a longer limit of time, or smaller batches in the evaluations: what is written in between is kept"
        got = f"{seconds:.0f} s, in which none was written"
        return Answer(None, str(SpikeproofError(f"time for a batch of {cell.name}", got, mend=mend)), seconds)


def _watched(child: Child) -> Answer:
    """Its answer; a signal that comes meanwhile is handed on."""
    handed_on = False
    while not wait([child.answers], timeout=_LOOK / 5):
        if not handed_on and (number := ending.heard()) is not None:
            os.kill(child.process.pid or os.getpid(), number)
            handed_on = True
    return child.answer()


def _traces(cell: Handed, store: PlannedStore) -> set[tuple[str, int, int]]:
    """What a cell, and its network, have on disk."""
    names = [f"cells/{cell.key}*/*"] + ([] if cell.model is None else [f"models/{cell.model}*/*"])
    return set(_stamps(path for name in names for path in store.root.glob(name)))


def _stamps(paths: Iterator[Path]) -> Iterator[tuple[str, int, int]]:
    for path in paths:
        if path.name == "owner" or path.suffix == ".tmp":
            continue
        try:
            found = path.stat()
        except OSError:
            continue
        yield str(path), found.st_size, found.st_mtime_ns
