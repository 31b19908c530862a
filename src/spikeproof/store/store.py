"""Results as plain files: a folder per cell, named by the hash of everything that decides its numbers.

    cells/<key>/config.yaml     the resolved configuration
                rows.jsonl      one line per image and attack, and per image when clean
                gradients.jsonl one line per image, place and scalar
                history.jsonl   one line per epoch
                summary.json    what the rows say, provenance, the sha256 of the other files, and its own seal
                model.safetensors, README.md
    models/<key>/               a trained network, training.json (what its training cost) and the sha256 of both, shared
                                by the cells that evaluate it

A cell is written in `<key>.partial` and renamed when it is whole; one found damaged becomes `<key>.damaged-0`; so a
folder without an ending is finished. What vanishes from a draft while it is written is an error, and never made anew.
No pickle, no database; an index can always be rebuilt from the folders, which may be copied anywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from spikeproof.errors import SpikeproofError
from spikeproof.files import digest, disk_errors, write_bytes, write_pieces
from spikeproof.limits import check_name
from spikeproof.lines import Lines
from spikeproof.rows import GradientRow, HistoryRow, Line, Row
from spikeproof.store import ending
from spikeproof.store.at_work import Owner
from spikeproof.store.locks import Lock, locked, locking, owner
from spikeproof.store.owners import mark, refuse_others
from spikeproof.store.summary import CellSummary, Provenance, Written, sealed, unsealed
from spikeproof.store.table import Table, table_of
from spikeproof.store.yaml_file import load_yaml

__all__ = [
    "TOOK", "Cell", "Draft", "Store", "batches_of", "check_config", "key_of", "sealed_batch", "whole_batches",
]  # fmt: skip

TOOK = "training.json"
"""What the training of a network cost, beside it: equal trainings write equal weights."""

_MODEL_FILES = ("model.safetensors", "model.sha256", TOOK)
_STAGES = ("rows", "gradients", "history")
_SEALED = ("config.yaml", "model.safetensors", "README.md")
_FILES = (*_SEALED, *(f"{stage}.jsonl" for stage in _STAGES))
_OWNER = "owner"


def key_of(facts: Any) -> str:
    """16 hex digits that name a JSON-able value; equal values have equal names."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def check_config(tree: object) -> dict[str, Any]:
    """The configuration that stands beside results; SpikeproofError where it is no mapping or its name no name."""
    if not isinstance(tree, dict):
        raise SpikeproofError("a cell's configuration as a mapping", type(tree).__name__)
    if "name" in tree:
        check_name("the name of a cell", tree["name"])
    return tree


def _lines(path: Path) -> Table:
    """The rows of a file, which is gone through line by line."""
    if not path.is_file():
        raise SpikeproofError(f"rows at {path}", "no such file", mend="start again: what is missing is made")
    with open(path, "rb") as file:
        return table_of(_row(line, f"{path}:{number}") for number, line in enumerate(file, start=1))


def _row(line: bytes, at: str) -> dict[str, Any]:
    try:
        if isinstance(row := json.loads(line), dict):
            return row
        error: object = f"a {type(row).__name__}"
    except (ValueError, RecursionError) as wrong:
        error = wrong
    raise SpikeproofError(f"a row of JSON at {at}", error, mend="delete the cell's folder; it is redone")


def _jsonl(rows: Iterable[Line]) -> Iterator[bytes]:
    return (json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows)


def sealed_batch(number: int, batch: bytes) -> bytes:
    """A line of a growing stage: a checksum of the rest (8 hex digits), the number of the batch, from 0, its rows."""
    numbered = b"%d %b" % (number, batch)
    return b"%08x %b\n" % (zlib.crc32(numbered), numbered)


def whole_batches(path: Path) -> tuple[int, int, int]:
    """Of a growing stage: how many batches are whole and in order, how many bytes they take, and the file's size."""
    number = whole = 0
    for batch in _sealed(path):
        whole += len(sealed_batch(number, batch))
        number += 1
    return number, whole, path.stat().st_size if path.is_file() else 0


def batches_of(path: Path) -> Iterator[list[Any]]:
    """The batches of a growing stage as far as they are whole and in order, one at a time."""
    return map(json.loads, _sealed(path))


def _sealed(path: Path) -> Iterator[bytes]:
    """What stands behind the checksum and the number of each line, up to the first that is torn, damaged or another."""
    if not path.is_file():
        return
    with open(path, "rb") as file:
        for number, line in enumerate(file):
            _, _, batch = line[9:].rstrip(b"\n").partition(b" ")
            if line != sealed_batch(number, batch):
                return
            yield batch


def _append_to(path: str, flags: int) -> int:
    """An opener of what is no link."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _go_on_with(path: str, flags: int) -> int:
    """An opener of what is there already, and is no link."""
    return _append_to(path, flags & ~os.O_CREAT)


def _set_aside(path: Path) -> None:
    """Another name for what is damaged, so that it is redone and can be looked at; of a stage, until its cell ends."""
    aside = next(p for n in range(10_000) if not (p := path.with_name(f"{path.name}.damaged-{n}")).exists())
    with disk_errors(path):
        os.rename(path, aside)


def _keep_only(folder: Path, names: Iterable[str]) -> None:
    for path in folder.iterdir():
        if path.name not in names and path.is_dir():
            shutil.rmtree(path)
        elif path.name not in names:
            path.unlink()


@dataclass(frozen=True)
class Cell:
    """A finished cell, read from its folder."""

    key: str
    folder: Path

    @property
    def config(self) -> dict[str, Any]:
        return check_config(load_yaml(self.folder / "config.yaml", "a cell's configuration"))

    @property
    def summary(self) -> CellSummary:
        with open(self.folder / "summary.json", encoding="utf-8") as file:
            found: CellSummary = json.load(file)
        return found

    @property
    def provenance(self) -> Provenance:
        return self.summary["provenance"]

    def rows(self) -> Lines[Row]:
        return _lines(self.folder / "rows.jsonl")

    def gradients(self) -> Lines[GradientRow]:
        return _lines(self.folder / "gradients.jsonl")

    def history(self) -> Lines[HistoryRow]:
        return _lines(self.folder / "history.jsonl")

    def damage(self) -> str | None:
        """What is wrong with the folder, or None: the summary must be as it was written, and every file must have the
        sha256 that it states. Whether the rows give the summary is for `study.inspection`."""
        try:
            summary = unsealed((self.folder / "summary.json").read_bytes())
            expected = summary["files"]
            if summary["key"] != self.key:
                return f"it is the cell {summary['key']}"
            if missing := {*_FILES} - {"README.md"} - expected.keys():  # which cells before seals did not state
                return f"summary.json states no sha256 of {min(missing)}"
            for name, sha in expected.items():
                if digest(self.folder / name) != sha:
                    return f"{name} has changed since it was written"
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return f"{type(error).__name__}: {error}"
        return None


class Draft:
    """A cell being made. Whatever a killed run left in it is used again where it is whole.

    It belongs to the run that began it last, which leaves its mark there: where another run has begun it meanwhile, as
    under locks that do not lock, or where the folder has vanished, every writing raises SpikeproofError. lock: the
    cell's; where another run has that meanwhile, every writing raises Locked.
    """

    def __init__(self, key: str, folder: Path, lock: Lock | None = None) -> None:
        self.key, self.folder, self._lock = key, folder, lock
        self.written: dict[str, str] = {}  # stage -> its sha256, of those that this run has written or read
        self._mark = os.urandom(8).hex().encode()
        self._next: dict[str, int] = {}  # stage that grows -> the number of its next batch
        mark(folder, _OWNER, self._mark)

    def check_owner(self) -> None:
        """Raises SpikeproofError where the folder, or its lock, is no longer this run's."""
        if self._lock is not None:
            self._lock.check()
        path = self.folder / _OWNER
        try:
            mark = path.read_bytes()
        except OSError as error:
            raise _lost(f"the folder {self.folder}, which this run made", "none any more") from error
        if mark != self._mark:
            mend = "let one command finish; if these are on several machines, the locks of this disk do not hold"
            raise SpikeproofError(f"one run at {self.folder}", "another one, begun since", mend=mend)

    def done(self, stage: str) -> bool:
        """Whether a stage (a file of rows) has been written; one that is no longer as it was written is set aside."""
        path = self.folder / f"{stage}.jsonl"
        if not path.is_file():
            return False
        if (seal := self._seal(stage)).is_file() and seal.read_bytes().strip() == digest(path).encode():
            return True
        self.check_owner()
        _set_aside(path)
        return False

    def write_stage(self, stage: str, rows: Iterable[Line]) -> None:
        """All rows of one stage, one after another, whole or not at all."""
        self.check_owner()
        so_far = hashlib.sha256()

        def lines() -> Iterator[bytes]:
            for line in _jsonl(rows):
                so_far.update(line)
                yield line

        def seal() -> None:
            # Before the stage: a kill in between leaves a seal without a stage, which is no stage.
            self.check_owner()
            write_bytes(self._seal(stage), f"{so_far.hexdigest()}\n".encode(), anew=False)

        write_pieces(self.folder / f"{stage}.jsonl", lines(), anew=False, first=seal)
        self.written[stage] = so_far.hexdigest()

    def _seal(self, stage: str) -> Path:
        return self.folder / f"{stage}.sha256"

    def seal_of(self, stage: str) -> str:
        """The sha256 of a stage that is there as it was written; SpikeproofError where it is not."""
        path, seal = self.folder / f"{stage}.jsonl", self._seal(stage)
        try:
            found, stated = digest(path), seal.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            raise _lost(f"the rows that this run has written at {path}", error) from error
        if found != stated:
            raise _lost(f"the rows that this run has written at {path}", "other ones")
        self.written[stage] = found
        return found

    def stage(self, stage: str) -> Lines[Row]:
        """The rows of a stage; SpikeproofError where they are not those that were written."""
        rows = _lines(self.folder / f"{stage}.jsonl")
        self.seal_of(stage)
        return rows

    def gradients(self) -> Lines[GradientRow]:
        """The stage 'gradients', the one that holds no rows of rows.jsonl."""
        rows: Lines[Any] = self.stage("gradients")
        return rows

    def append(self, stage: str, rows: Sequence[Line]) -> None:
        """More rows of a stage that grows batch by batch; flushed to the disk before it returns, or raises Stopped
        where this process was told to end."""
        self.check_owner()
        path = self.folder / f"{stage}.part"
        number = self._next[stage] if stage in self._next else len(self.batches(stage))
        with disk_errors(path), open(path, "ab", opener=_go_on_with if number else _append_to) as file:
            # One line a batch: what a kill tears off is one line, which `batches` leaves out.
            file.write(sealed_batch(number, json.dumps(rows, separators=(",", ":")).encode()))
            file.flush()
            os.fsync(file.fileno())
        self._next[stage] = number + 1
        ending.check()

    def batches(self, stage: str) -> list[list[Row]]:
        """The whole batches that a stage has so far; from a line on that is torn, damaged, or not the next in their
        order, the file is cut off."""
        path = self.folder / f"{stage}.part"
        number, whole, size = whole_batches(path)
        if whole < size:
            self.check_owner()
            write_bytes(path, path.read_bytes()[:whole], anew=False)
        self._next[stage] = number
        return list(batches_of(path))

    def close(self, stage: str, batches: int) -> None:
        """A growing stage is complete: its batches become rows. Raises SpikeproofError where there are not as many
        whole ones as it must have, each once."""
        path = self.folder / f"{stage}.part"
        found, whole, size = whole_batches(path)
        if found != batches or whole < size:
            raise _unlike(batches, path, f"{found}" + (", and then what is none of them" if whole < size else ""))

        def rows() -> Iterator[Line]:
            number = 0
            for number, batch in enumerate(batches_of(path), start=1):  # noqa: B007
                yield from batch
            if number != batches:  # it was whole a moment ago
                raise _unlike(batches, path, number)

        self.write_stage(stage, rows())
        path.unlink(missing_ok=True)


def _unlike(batches: int, path: Path, got: object) -> SpikeproofError:
    return _lost(f"{batches} batches, each once, at {path}", got)


def _lost(expected: str, got: object) -> SpikeproofError:
    """The error of a run from under which something has been taken."""
    mend = "start again, which goes on from what is whole, and leave the folder alone meanwhile"
    return SpikeproofError(expected, got, mend=mend)


def _refuse_unlike(first: Cell, draft: Draft) -> None:
    """SpikeproofError where another run has finished the cell with other rows than this one."""
    stated = first.summary["files"]
    if unlike := [stage for stage, sha in draft.written.items() if stated.get(f"{stage}.jsonl", sha) != sha]:
        left = (
            f"compare it with {draft.folder}, and delete"
            if draft.folder.is_dir()
            else "delete it and start again, or keep"
        )
        mend = f"{left} one of them"
        raise SpikeproofError(f"the same rows as at {first.folder}", f"others in {unlike[0]}.jsonl", mend=mend)


class Store:
    """A folder of cells. Safe to use from several processes: a key is locked while it is worked on.

    patience: seconds that a lock of another run is waited for; None: as long as it takes.
    """

    def __init__(self, root: Path, patience: float | None = None) -> None:
        self.root, self.patience = Path(root), patience

    def model_folder(self, key: str) -> Path:
        return self.root / "models" / key

    def models(self) -> list[str]:
        """The key of every network that was finished, whole or damaged."""
        return sorted(f.name for f in self.root.glob("models/*") if f.is_dir() and "." not in f.name)

    def model_damage(self, key: str) -> str | None:
        """What is wrong with the files of a finished network, or None."""
        weights, stated, cost = (self.model_folder(key) / name for name in _MODEL_FILES)
        if not weights.is_file() or not stated.is_file():
            return f"no {(stated if weights.is_file() else weights).name}"
        # Of a version that kept the cost in the weights it is one; of this one, without its cost, one too few.
        found = [digest(path).encode() for path in (weights, cost) if path.is_file()]
        if (sealed_as := stated.read_bytes().split()) == found:
            return None
        return f"{(cost if sealed_as[:1] == found[:1] else weights).name} has changed since it was written"

    def whole_model(self, key: str) -> Path | None:
        """The weights of a finished network, if they are there and undamaged; a damaged folder is set aside."""
        folder = self.model_folder(key)
        if not folder.is_dir():
            return None
        if self.model_damage(key) is None:
            with disk_errors(folder):
                _keep_only(folder, _MODEL_FILES)  # a killed run may have renamed the folder and no more
            return folder / "model.safetensors"
        _set_aside(folder)
        return None

    def model_draft(self, key: str) -> Path:
        """The folder of a network that is being trained, this user's own."""
        folder = self.model_folder(key).with_name(f"{key}.partial")
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        mark(folder, _OWNER, b"")
        return folder

    def finish_model(self, draft: Path, key: str, lock: Lock) -> Path:
        """Give the folder of a trained network its checksum and its final name; returns the weights' file. Raises
        Locked where another run has its lock meanwhile."""
        folder = self.model_folder(key)
        stated = "".join(f"{digest(draft / name)}\n" for name in ("model.safetensors", TOOK))
        write_bytes(draft / "model.sha256", stated.encode(), anew=False)
        lock.check()
        with disk_errors(folder):
            # The checkpoint goes last: were it gone before the rename, a kill in between would lose the training.
            os.rename(draft, folder)
            _keep_only(folder, _MODEL_FILES)
        return folder / "model.safetensors"

    def lock(self, key: str, *, wait: bool = True) -> AbstractContextManager[Lock]:
        """To be entered; where another run has it: waited for, then Locked, or with wait=False Locked at once."""
        self.refuse_others()
        return locking(self.root / "locks", key, self.patience if wait else 0.0)

    def refuse_others(self) -> None:
        """Raises SpikeproofError where another user could lead what is written here elsewhere."""
        for folder in (self.root, *(self.root / name for name in ("cells", "models", "locks"))):
            refuse_others(folder)

    def locked(self, key: str) -> bool:
        """Whether some process is at it."""
        return locked(self.root / "locks", key)

    def owner(self, key: str) -> Owner | None:
        """Which process is at it, as far as that has said so; for telling only."""
        return owner(self.root / "locks", key)

    def draft(self, key: str, lock: Lock | None = None) -> Draft:
        folder = self.root / "cells" / f"{key}.partial"
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return Draft(key, folder, lock)

    def finished(self, key: str) -> Cell | None:
        """The cell, if it is there and undamaged; a damaged one is set aside under another name, to be redone."""
        cell = Cell(key, self.root / "cells" / key)
        if not cell.folder.is_dir():
            return None
        if cell.damage() is None:
            return cell
        _set_aside(cell.folder)
        return None

    def finish(self, draft: Draft, config: dict[str, Any], summary: Written, card: str, model: Path) -> Cell:
        """Give a draft its last files and its final name; whatever else is in it goes. Where another run has finished
        the cell meanwhile, its cell is taken if it has the same rows; SpikeproofError if not."""
        try:
            self._complete(draft, config, summary, card, model)
        except SpikeproofError:
            if (first := self.finished(draft.key)) is None:
                raise
            _refuse_unlike(first, draft)
            return first
        return self._placed(draft)

    def _complete(self, draft: Draft, config: dict[str, Any], summary: Written, card: str, model: Path) -> None:
        """The last files of a draft, and no others; SpikeproofError where it is no longer this run's."""
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        draft.check_owner()
        write_bytes(draft.folder / "config.yaml", text.encode(), anew=False)
        write_bytes(draft.folder / "README.md", card.encode(), anew=False)
        with disk_errors(draft.folder):
            (draft.folder / "model.safetensors").unlink(missing_ok=True)  # were it a link, another file would change
            shutil.copyfile(model, draft.folder / "model.safetensors")
            files = {name: digest(draft.folder / name) for name in _SEALED}
        files |= {f"{stage}.jsonl": draft.seal_of(stage) for stage in _STAGES}
        write_bytes(draft.folder / "summary.json", sealed({"key": draft.key, **summary, "files": files}), anew=False)
        draft.check_owner()
        with disk_errors(draft.folder):
            # Stages, which are in rows.jsonl now, and what a killed run left half written.
            _keep_only(draft.folder, (*_FILES, "summary.json"))

    def _placed(self, draft: Draft) -> Cell:
        """A whole draft under its final name, if no other run, which no lock kept out, was first."""
        final = draft.folder.with_suffix("")
        try:
            with disk_errors(final):
                os.rename(draft.folder, final)
        except SpikeproofError:
            if not final.is_dir() or not draft.folder.is_dir():
                raise
            first = self.finished(draft.key)
            if first is None:  # damaged, and set aside now
                return self._placed(draft)
            _refuse_unlike(first, draft)
            _keep_only(draft.folder, ())
            draft.folder.rmdir()
        return Cell(draft.key, final)

    def folders(self) -> list[Cell]:
        """Every cell that was finished, by its key, whole or damaged."""
        folders = sorted((self.root / "cells").glob("*")) if (self.root / "cells").is_dir() else []
        return [Cell(f.name, f) for f in folders if f.is_dir() and "." not in f.name]

    def cells(self) -> list[Cell]:
        """Every finished cell, by the name in its configuration; damaged ones raise SpikeproofError that names them."""
        cells = self.folders()
        for cell in cells:
            if damage := cell.damage():
                raise SpikeproofError(
                    f"a whole cell at {cell.folder}", damage, mend="run the study again: it is redone"
                )
        return sorted(cells, key=lambda c: str(c.config.get("name", c.key)))
