"""What runs the cells of a study: the promise that every engine keeps, one file each, and what engines share.

Cells know nothing of each other: what they share is the store, whose locks let a cell be worked on once, by whatever
process of whatever command. So an engine only hands out cells, and says what became of each.
"""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from spikeproof.errors import Locked, SpikeproofError
from spikeproof.store.store import Cell, Store
from spikeproof.study.config import CellConfig
from spikeproof.study.pictures import keep_pictures
from spikeproof.study.run import run_cell
from spikeproof.study.trained import Machine, Reader

__all__ = ["Answer", "Executor", "Outcome", "Queue", "attempt"]


class Outcome(NamedTuple):
    """What became of a cell: the finished cell, or what went wrong; neither where another command is at it still, and
    there was no patience to wait for that. seconds: in this run."""

    config: CellConfig
    cell: Cell | None
    error: str | None
    seconds: float


class Executor(Protocol):
    """Runs cells, here or elsewhere."""

    @property
    def at_once(self) -> int:
        """How many cells it has in work at a time, 1 or more."""
        ...

    def run(self, cells: Sequence[CellConfig], store: Store, machine: Machine) -> Generator[Outcome, None, None]:
        """Every cell once, each yielded as soon as it is done or has failed, whatever becomes of the others.

        Closing the iterator, or an exception at it, ends what is still running.
        """
        ...


class Answer(NamedTuple):
    """What an engine hears of one attempt; without a cell and an error, another command was at the cell."""

    cell: Cell | None
    error: str | None
    seconds: float


@dataclass
class Queue:
    """Cells to be run: first those that nobody is at; those that another command was at are waited for at the end."""

    fresh: deque[CellConfig]
    busy: deque[CellConfig] = field(default_factory=deque)

    def next(self) -> tuple[CellConfig, bool] | None:
        """A cell, and whether it is to be waited for."""
        if self.fresh:
            return self.fresh.popleft(), False
        return (self.busy.popleft(), True) if self.busy else None

    def outcome(self, config: CellConfig, answer: Answer, *, last: bool) -> Iterator[Outcome]:
        """The outcome of a cell, if it has one already; last: whether it is not waited for again."""
        if answer.cell is None and answer.error is None and not last:
            self.busy.append(config)
        else:
            yield Outcome(config, *answer)


def attempt(config: CellConfig, waits: bool, store: Store, machine: Machine, read: Reader | None = None) -> Answer:
    """Run one cell; whatever is wrong with it becomes an answer."""
    started = time.perf_counter()
    cell, error = None, None
    try:
        cell = run_cell(config, store, machine, wait=waits, read=read)
        keep_pictures(cell, config, machine, read)
    except Locked:
        pass
    except (SpikeproofError, OSError) as found:
        error = str(found)
    except Exception as found:  # a fault of a part, perhaps of the user's own: the other cells go on
        traceback.print_exc()
        error = f"{type(found).__name__}: {found}"
    return Answer(cell, error, time.perf_counter() - started)
