"""The engine of a Ray cluster that is there already: a task for each cell, begun again elsewhere where a node is lost.

Ray only starts tasks and says which have ended. Results go through the study's folder, which every node must see; a
cell that a lost node's process is still at is waited for, like one of any other command.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.store.at_work import JOB
from spikeproof.store.store import Cell, Store
from spikeproof.study.config import CellConfig
from spikeproof.study.executor import Answer, Outcome, Queue, attempt
from spikeproof.study.failures import forget_failure, note_failure
from spikeproof.study.handout import Handout, PlannedStore, read
from spikeproof.study.trained import Machine

__all__ = ["RayTasks"]

_RETRIES = 5
"""How often a cell is begun again whose node or process was lost; it goes on where it was."""

_PATIENCE = 60.0
"""Seconds in which a head must answer."""

_ASK = "import ray, sys; ray.init(sys.argv[1], log_to_driver=False, logging_level='ERROR'); ray.shutdown()"


class _Task(NamedTuple):
    """All that a task is told; everything else is in the folder."""

    root: str
    plan: str
    key: str
    waits: bool
    patience: float | None
    machine: Machine
    threads: int
    allowed: tuple[str, ...]
    trust: bool
    directory: str


@lru_cache(maxsize=1)
def _read(root: str, plan: str) -> Handout:
    return read(Store(Path(root)), plan)


def _work(task: _Task) -> tuple[bool, str | None, float]:
    """In a process of the cluster: whether the cell is done, what is wrong, and the seconds that it took."""
    if os.path.isdir(task.directory):
        os.chdir(task.directory)  # where the study's relative paths begin
    os.environ.setdefault(JOB, "ray")
    try:
        handout = _read(task.root, task.plan)
        handout.refuse_others(task.allowed)
        (cell,) = (one for one in handout.cells if one.key == task.key)
        config = cell.config(handout.path, trust=task.trust)
    except SpikeproofError as error:
        return False, str(error), 0.0
    torch.set_num_threads(task.threads)
    task.machine.settle()
    store = PlannedStore.of(Path(task.root), task.patience, handout.cells)
    answer = attempt(config, task.waits, store, task.machine)
    if answer.error is not None:
        note_failure(store, task.key, answer.error)
    elif answer.cell is not None:
        forget_failure(store, task.key)
    return answer.cell is not None, answer.error, answer.seconds


@dataclass(frozen=True)
class RayTasks:
    """`at_once` cells of a plan at a time.

    plan: its digest; keys: name of a cell -> its key; address: of the head, host:port or 'auto', the one of this
    machine; allowed, trust: as `spikeproof worker` takes them.
    """

    at_once: int
    plan: str
    keys: Mapping[str, str]
    address: str = "auto"
    threads: int = 1
    allowed: tuple[str, ...] = ()
    trust: bool = False

    def run(self, cells: Sequence[CellConfig], store: Store, machine: Machine) -> Generator[Outcome, None, None]:
        """Raises SpikeproofError where there is no Ray, or no head that answers. Closing ends the tasks."""
        ray = _connected(self.address)
        gpus = 1 if machine.torch.type == "cuda" else 0
        work = ray.remote(num_cpus=self.threads, num_gpus=gpus, max_retries=_RETRIES)(_work)
        queue, running = Queue(deque(cells)), dict[Any, tuple[CellConfig, bool]]()
        try:
            while True:
                while len(running) < self.at_once and (task := queue.next()) is not None:
                    running[work.remote(self._task(*task, store, machine))] = task
                if not running:
                    return
                (ended, *_), _ = ray.wait([*running])
                config, waits = running.pop(ended)
                answer = self._answer(ray, ended, config, store)
                yield from queue.outcome(config, answer, last=waits and store.patience is not None)
        finally:
            for reference in running:
                ray.cancel(reference, force=True)
            ray.shutdown()

    def _task(self, config: CellConfig, waits: bool, store: Store, machine: Machine) -> _Task:
        root, key = str(store.root.resolve()), self.keys[config.name]
        return _Task(
            root, self.plan, key, waits, store.patience, machine, self.threads, self.allowed, self.trust, os.getcwd()
        )

    def _answer(self, ray: Any, ended: Any, config: CellConfig, store: Store) -> Answer:
        """What a task said, or how it was lost more often than it is tried again."""
        try:
            done, error, seconds = ray.get(ended)
        except ray.exceptions.RayError as lost:
            return Answer(None, f"lost by the Ray cluster {_RETRIES + 1} times: {' '.join(str(lost).split())}", 0.0)
        cell = Cell(self.keys[config.name], store.root / "cells" / self.keys[config.name])
        if done and not cell.folder.is_dir():
            mend = "--out a folder that every node sees"
            return Answer(
                None, str(UsageError(f"{cell.folder}, which a node has made", "none here", mend=mend)), seconds
            )
        return Answer(cell if done else None, error, seconds)


def _connected(address: str) -> Any:
    """The module `ray`, connected. A head that does not answer may never return or end the process that asks it: so
    another one asks first."""
    try:
        import ray
    except ImportError as error:
        raise UsageError("Ray in this environment", error, mend="pip install 'spikeproof[ray]'") from error
    mend = "ray start --head on one machine, ray start --address there on the others, and --address HOST:6379"
    try:
        asked = subprocess.run(
            [sys.executable, "-c", _ASK, address], capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        raise SpikeproofError(f"a Ray cluster at {address}", f"no answer in {_PATIENCE:.0f} s", mend=mend) from None
    if asked.returncode:
        said = (asked.stderr.strip().splitlines() or ["nothing"])[-1]
        raise SpikeproofError(f"a Ray cluster at {address}", said, mend=mend)
    ray.init(address, log_to_driver=False, logging_level="ERROR")
    return ray
