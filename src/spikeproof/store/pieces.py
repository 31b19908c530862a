"""Pieces of a cell that several runs make together, on whatever machines: each under a lock of its own, made once.

    cells/<key>.pieces/terms          what the runs that share them have in common
                       <name>.<n>     one piece: a sealed line of rows
                       locks/         whose each is that is being made

A piece is whole or not there, and one whose maker has died is free for the next. The folder goes when the cell is
finished: each run that shares it clears it when it finds the cell so, for one that came late may have made it again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from spikeproof.errors import Locked, UsageError
from spikeproof.files import disk_errors, write_bytes
from spikeproof.rows import Line
from spikeproof.store.locks import locked, locking
from spikeproof.store.store import Cell, Store, batches_of, sealed_batch, whole_batches

__all__ = ["Pieces", "Seen"]


def _folder(store: Store, key: str) -> Path:
    return store.root / "cells" / f"{key}.pieces"


class Pieces:
    """Those of one cell. terms: what runs must have in common for their rows to be those of one run; UsageError where
    another run, which began, has others."""

    def __init__(self, store: Store, key: str, terms: Mapping[str, Any]) -> None:
        self.folder = _folder(store, key)
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self._agree(dict(terms))

    def _agree(self, terms: dict[str, Any]) -> None:
        """The first run writes its terms down; a link is made once, whoever tries at the same time."""
        path = self.folder / "terms"
        mine = path.with_name(f".terms.{os.urandom(8).hex()}")
        write_bytes(mine, json.dumps(terms).encode(), anew=False)
        try:
            with disk_errors(path), suppress(FileExistsError):
                os.link(mine, path)
        finally:
            mine.unlink(missing_ok=True)
        with disk_errors(path):
            first = json.loads(path.read_bytes())
        if unlike := [name for name in {**first, **terms} if first.get(name) != terms.get(name)]:
            told = [f"{name} {one.get(name)}" for one in (first, terms) for name in unlike[:1]]
            mend = f"the same {unlike[0]} on every machine that shares a cell, or delete {self.folder} and start again"
            raise UsageError(f"{told[0]}, as the runs that share this cell have", told[1], mend=mend)

    def read(self, name: str, number: int) -> list[Any] | None:
        """The rows of a piece; None where it is not there. What is damaged is removed, to be made anew."""
        path = self.folder / f"{name}.{number}"
        with disk_errors(path), suppress(FileNotFoundError):  # the cell may be finished just now
            found, whole, size = whole_batches(path)
            if found == 1 and whole == size:
                return next(batches_of(path), None)
            path.unlink()
        return None

    def make(self, name: str, number: int, rows: Callable[[], Sequence[Line]]) -> bool:
        """Make a piece that is not there, unless another run is at it; whether it is there now."""
        path, locks, called = self.folder / f"{name}.{number}", self.folder / "locks", f"{name}.{number}"
        if path.is_file():
            return True
        if locked(locks, called):  # one look, where a lease would be watched for a while
            return False
        try:
            with locking(locks, called, 0.0) as lock:
                if not path.is_file():
                    line = json.dumps(list(rows()), separators=(",", ":")).encode()
                    lock.check()
                    write_bytes(path, sealed_batch(0, line), anew=False)
        except Locked:
            return False
        return True

    @staticmethod
    def clear(store: Store, key: str) -> None:
        """All of them, of a cell that is finished. Whoever still makes one keeps the folder, and clears it in turn."""
        shutil.rmtree(_folder(store, key), ignore_errors=True)


class Seen:
    """A draft as a run sees it that does not own it: what is written there already need not be made again."""

    def __init__(self, store: Store, key: str) -> None:
        self._folder, self._cell = store.root / "cells" / f"{key}.partial", Cell(key, store.root / "cells" / key)

    def done(self, stage: str) -> bool:
        """Whether a stage has been closed, or its whole cell."""
        return (self._folder / f"{stage}.jsonl").is_file() or self._cell.folder.is_dir()

    def batches(self, stage: str) -> list[list[Any]]:
        """The whole batches that a stage has so far."""
        with suppress(OSError):  # it may be closed just now
            return list(batches_of(self._folder / f"{stage}.part"))
        return []
