"""Who runs the cells of a study: this process, or several workers, each a process that runs one cell and ends.

A cell is all that a worker knows, so one that fails or dies takes nothing with it. What they share is the store: its
locks let a cell be worked on once, by whatever process of whatever command. A worker ends when its parent does, however
that ended; killing one loses nothing but the batch it was at.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import torch
from filelock import Timeout
from tqdm import tqdm

from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.store.keys import code_digest
from spikeproof.store.store import Cell, Store
from spikeproof.study.config import CellConfig
from spikeproof.study.run import run_cell
from spikeproof.study.trained import Machine, Reader

__all__ = ["Outcome", "cores", "run_cells"]


class Outcome(NamedTuple):
    """What became of a cell: the finished cell, or what went wrong. seconds: in this run."""

    config: CellConfig
    cell: Cell | None
    error: str | None
    seconds: float


class _Answer(NamedTuple):
    """What a worker says at its end; without a cell and an error, another command was at the cell."""

    cell: Cell | None
    error: str | None
    seconds: float


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class _Queue:
    """Cells to be run: first those that nobody is at; those that another command was at are waited for at the end."""

    fresh: deque[CellConfig]
    busy: deque[CellConfig] = field(default_factory=deque)

    def next(self) -> tuple[CellConfig, bool] | None:
        """A cell, and whether it is to be waited for."""
        if self.fresh:
            return self.fresh.popleft(), False
        return (self.busy.popleft(), True) if self.busy else None

    def outcome(self, config: CellConfig, answer: _Answer) -> Iterator[Outcome]:
        """The outcome of a cell, if it has one already."""
        if answer.cell is None and answer.error is None:
            self.busy.append(config)
        else:
            yield Outcome(config, *answer)


def run_cells(
    cells: Sequence[CellConfig], store: Store, machine: Machine, workers: int = 1
) -> Generator[Outcome, None, None]:
    """Every cell once, each yielded as soon as it is done or has failed, whatever becomes of the others.

    workers: processes at a time, each with as many torch threads as this one has; with one, the cells are run here.
    Closing the iterator, or an exception at it, kills the workers.
    """
    queue, read = _Queue(deque(cells)), Reader()
    if workers > 1:
        yield from _crew(queue, store, machine, workers)
        return
    while (task := queue.next()) is not None:
        yield from queue.outcome(task[0], _attempt(*task, store, machine, read))


def _attempt(config: CellConfig, waits: bool, store: Store, machine: Machine, read: Reader | None = None) -> _Answer:
    """Run one cell; whatever is wrong with it becomes an answer."""
    started = time.perf_counter()
    cell, error = None, None
    try:
        cell = run_cell(config, store, machine, wait=waits, read=read)
    except Timeout:
        pass
    except (SpikeproofError, OSError) as found:
        error = str(found)
    except Exception as found:  # a fault of a part, perhaps of the user's own: the other cells go on
        traceback.print_exc()
        error = f"{type(found).__name__}: {found}"
    return _Answer(cell, error, time.perf_counter() - started)


# --- workers ---


class _Worker(NamedTuple):
    config: CellConfig
    process: BaseProcess
    answers: Connection
    started: float

    def answer(self) -> _Answer:
        """What it said, or how it died without a word."""
        try:
            said: _Answer = self.answers.recv()
        except (EOFError, OSError):
            self.process.join()
            seconds = time.perf_counter() - self.started
            said = _Answer(None, f"its process died: {_how(self.process.exitcode)}", seconds)
        self.process.join()
        self.answers.close()
        return said


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        memory = ", as the system does when memory runs out" if code == -signal.SIGKILL else ""
        return f"killed by {signal.Signals(-code).name}{memory}"
    return f"exit code {code}"


def _context() -> BaseContext:
    """Forked from a server that has imported everything and never computed: torch's threads do not survive a fork."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["spikeproof.study.preload"])
    return context


def _crew(queue: _Queue, store: Store, machine: Machine, workers: int) -> Iterator[Outcome]:
    context, crew = _context(), list[_Worker]()
    try:
        while True:
            while len(crew) < workers and (task := queue.next()) is not None:
                crew.append(_start(context, *task, store, machine))
            if not crew:
                return
            said = wait([worker.answers for worker in crew])
            for worker in [worker for worker in crew if worker.answers in said]:
                answer = worker.answer()
                crew.remove(worker)
                yield from queue.outcome(worker.config, answer)
    finally:
        for worker in crew:
            worker.process.kill()
        for worker in crew:
            worker.process.join()


def _running() -> str:
    """Of the sources that this process has read."""
    return code_digest(run_cell.__module__)


def _start(context: Any, config: CellConfig, waits: bool, store: Store, machine: Machine) -> _Worker:
    ours, theirs = context.Pipe(duplex=False)
    given = (config, waits, store, machine, torch.get_num_threads(), _running(), theirs)
    process = context.Process(target=_work, args=given, daemon=True)
    process.start()
    theirs.close()  # so that the death of the worker, which holds the other end, is seen here
    return _Worker(config, process, ours, time.perf_counter())


def _work(
    config: CellConfig, waits: bool, store: Store, machine: Machine, threads: int, code: str, answers: Connection
) -> None:
    """The whole life of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C reaches the parent too, which ends this process
    tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, which a killed worker leaves behind
    _end_with_parent()
    torch.set_num_threads(threads)
    machine.settle()
    if _running() == code:
        answer = _attempt(config, waits, store, machine)
    else:
        mend = "start the study again: it goes on with the new sources"
        said = UsageError(f"the sources that this study began with, {code}", _running(), mend=mend)
        answer = _Answer(None, str(said), 0.0)
    answers.send(answer)


def _end_with_parent() -> None:
    """End this process at once when its parent has ended, were it by SIGKILL: nobody is left to read its answer."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
