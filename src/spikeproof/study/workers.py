"""The engine of several workers on this machine, each a process that runs one cell and ends.

A cell is all that a worker knows, so one that fails or dies takes nothing with it. A worker ends when its parent does,
however that ended; killing one loses nothing but the batch it was at.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from spikeproof.errors import UsageError
from spikeproof.store import ending
from spikeproof.store.keys import code_digest
from spikeproof.store.store import Store
from spikeproof.study.config import CellConfig
from spikeproof.study.executor import Answer, Outcome, Queue, attempt
from spikeproof.study.run import run_cell
from spikeproof.study.trained import Machine

__all__ = ["Child", "Workers", "cores", "devices", "start"]

_SAFE_PATH = "PYTHONSAFEPATH"


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def devices(device: str, at_once: int) -> list[str]:
    """The device of each of so many workers: of several GPUs they take one each, in turn; a device with a number, or
    another kind, is that of all."""
    gpus = torch.cuda.device_count() if device == "cuda" else 0
    return [f"cuda:{number % gpus}" if gpus > 1 else device for number in range(at_once)]


class Child(NamedTuple):
    """A process that runs one cell."""

    config: CellConfig
    waits: bool
    device: str
    process: BaseProcess
    answers: Connection
    started: float

    def answer(self) -> Answer:
        """What it said, or how it died without a word."""
        try:
            said: Answer = self.answers.recv()
        except (EOFError, OSError):
            self.process.join()
            seconds = time.perf_counter() - self.started
            said = Answer(None, f"its process died: {_how(self.process.exitcode)}", seconds)
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
    with _without_working_directory():
        forkserver.ensure_running()
    return context


@contextmanager
def _without_working_directory() -> Iterator[None]:
    """Python itself would have the server look for modules in the working directory first, whoever owns that."""
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        del os.environ[_SAFE_PATH]
        if before is not None:
            os.environ[_SAFE_PATH] = before


@dataclass(frozen=True)
class Workers:
    """`at_once` processes at a time, each with as many torch threads as this one has. Closing kills them."""

    at_once: int

    def run(self, cells: Sequence[CellConfig], store: Store, machine: Machine) -> Generator[Outcome, None, None]:
        queue = Queue(deque(cells))
        context, crew = _context(), list[Child]()
        free = deque(devices(machine.device, self.at_once))
        try:
            while True:
                while len(crew) < self.at_once and (task := queue.next()) is not None:
                    crew.append(start(context, *task, store, replace(machine, device=free.popleft())))
                if not crew:
                    return
                said = wait([worker.answers for worker in crew])
                for worker in [worker for worker in crew if worker.answers in said]:
                    answer = worker.answer()
                    crew.remove(worker)
                    free.append(worker.device)
                    last = worker.waits and store.patience is not None
                    yield from queue.outcome(worker.config, answer, last=last)
        finally:
            for worker in crew:
                worker.process.kill()
            for worker in crew:
                worker.process.join()


def _running() -> str:
    """Of the sources that this process has read."""
    return code_digest(run_cell.__module__)


def start(
    context: Any, config: CellConfig, waits: bool, store: Store, machine: Machine, grace: float | None = None
) -> Child:
    """A process for one cell. grace: seconds from a signal of `ending.SIGNALS` until it ends where it is; None: at
    once."""
    ours, theirs = context.Pipe(duplex=False)
    given = (config, waits, store, machine, torch.get_num_threads(), _running(), theirs, grace)
    process = context.Process(target=_work, args=given, daemon=True)
    process.start()
    theirs.close()  # so that the death of the worker, which holds the other end, is seen here
    return Child(config, waits, machine.device, process, ours, time.perf_counter())


def _work(
    config: CellConfig, waits: bool, store: Store, machine: Machine, threads: int, code: str, answers: Connection,
    grace: float | None,
) -> None:  # fmt: skip
    """The whole life of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C reaches the parent too, which ends this process
    tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, which a killed worker leaves behind
    _end_with_parent()
    torch.set_num_threads(threads)
    machine.settle()
    started = time.perf_counter()
    try:
        with nullcontext() if grace is None else ending.listening(grace):
            answer = _attempted(config, waits, store, machine, code)
    except ending.Stopped:
        answer = Answer(None, None, time.perf_counter() - started)
    answers.send(answer)


def _attempted(config: CellConfig, waits: bool, store: Store, machine: Machine, code: str) -> Answer:
    """Of a cell, where the sources are those that the study began with."""
    if _running() == code:
        return attempt(config, waits, store, machine)
    mend = "start the study again: it goes on with the new sources"
    return Answer(None, str(UsageError(f"the sources that this study began with, {code}", _running(), mend=mend)), 0.0)


def _end_with_parent() -> None:
    """End this process at once when its parent has ended, were it by SIGKILL: nobody is left to read its answer."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
