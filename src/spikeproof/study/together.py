"""Who makes the batches of a cell's rows: one run, or several runs that share them, on whatever machines.

Batches that know nothing of one another are pieces. Runs at one cell walk the same stages in the same order, each
takes pieces that nobody has, and the one that has the cell's lock writes what all have made into the draft, in the
order of one run alone. So the rows are those of that run bit for bit: every piece holds the images that it held there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from spikeproof import native
from spikeproof.rows import Line
from spikeproof.store.pieces import Pieces, Seen
from spikeproof.store.store import Draft
from spikeproof.study.trained import Machine

__all__ = ["Alone", "Helping", "Making", "Merging", "terms_of"]

_POLL = 0.1
"""Seconds between two looks for a piece that another run is making."""

_Work = Sequence[Callable[[], Sequence[Line]]]


def terms_of(machine: Machine) -> dict[str, Any]:
    """What makes other last bits, and so must be alike where one cell is made of the pieces of several runs."""
    cuda = machine.torch.type == "cuda"
    return {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "threads": torch.get_num_threads(),
        "processor": torch.cuda.get_device_name(machine.torch) if cuda else torch.backends.cpu.get_cpu_capability(),
        "scan": native.form(machine.torch),
    }


class Making(Protocol):
    """Where the stages of a cell are written, as far as one run writes them, and who makes their batches."""

    def done(self, stage: str) -> bool:
        """Whether a stage is written."""
        ...

    def batches(self, stage: str) -> list[list[Any]]:
        """What is written of a stage that grows."""
        ...

    def append(self, stage: str, rows: Sequence[Line]) -> None: ...

    def close(self, stage: str, batches: int) -> None: ...

    def made(self, name: str, first: int, work: _Work, *, needed: bool) -> Iterator[list[Any]]:
        """The rows of each, in order. name, and the number of the first: what they are called. needed: whether later
        work depends on them; where not, a run that only helps may leave out what others are making."""
        ...


class Alone:
    """One run makes all."""

    def __init__(self, draft: Draft) -> None:
        self.done, self.batches, self.append, self.close = draft.done, draft.batches, draft.append, draft.close

    def made(self, name: str, first: int, work: _Work, *, needed: bool) -> Iterator[list[Any]]:
        return (list(one()) for one in work)


class _Shared:
    """Takes pieces that nobody has, beginning where others probably do not."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces, self._begin = pieces, int.from_bytes(os.urandom(4))

    def _take(self, name: str, first: int, work: _Work, left: list[int]) -> bool:
        """Make one piece of those left; whether there was one. Those that are there are left no more."""
        begin = self._begin % (len(left) or 1)
        for number in left[begin:] + left[:begin]:
            there = self._pieces.read(name, number) is not None
            if there or self._pieces.make(name, number, work[number - first]):
                left.remove(number)
                if not there:
                    return True
        return False

    def _all(self, name: str, first: int, work: _Work) -> Iterator[list[Any]]:
        left = [*range(first, first + len(work))]
        for number in [*left]:
            while (rows := self._pieces.read(name, number)) is None:
                if number not in left:  # damaged since
                    left.append(number)
                if not self._take(name, first, work, left):
                    time.sleep(_POLL)
            yield rows


class Merging(_Shared):
    """The run that has the cell's lock: it writes the draft, and makes pieces while others do."""

    def __init__(self, draft: Draft, pieces: Pieces) -> None:
        super().__init__(pieces)
        self.done, self.batches, self.append, self.close = draft.done, draft.batches, draft.append, draft.close

    def made(self, name: str, first: int, work: _Work, *, needed: bool) -> Iterator[list[Any]]:
        return self._all(name, first, work)


class Helping(_Shared):
    """A run that makes pieces and writes nothing else."""

    def __init__(self, seen: Seen, pieces: Pieces) -> None:
        super().__init__(pieces)
        self.done, self.batches = seen.done, seen.batches

    def append(self, stage: str, rows: Sequence[Line]) -> None:
        """Whoever has the lock does."""

    def close(self, stage: str, batches: int) -> None:
        """Whoever has the lock does."""

    def made(self, name: str, first: int, work: _Work, *, needed: bool) -> Iterator[list[Any]]:
        if needed:
            return self._all(name, first, work)
        left = [*range(first, first + len(work))]
        while self._take(name, first, work, left):
            pass
        return iter(())
