"""Results as plain files: a folder per cell, named by the hash of everything that decides its numbers.

    cells/<key>/config.yaml     the resolved configuration
                rows.jsonl      one line per image and attack, and per image when clean
                gradients.jsonl one line per image, place and scalar
                history.jsonl   one line per epoch
                summary.json    what the rows say, provenance, and the sha256 of the files above
                model.safetensors, README.md
    models/<key>/               a trained network with its sha256, shared by the cells that evaluate it

A cell is written in `<key>.partial` and renamed when it is whole; one found damaged becomes `<key>.damaged-0`; so a
folder without an ending is finished. No pickle, no database; an index can always be rebuilt from the folders, which may
be copied anywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from spikeproof.errors import SpikeproofError
from spikeproof.files import digest, disk_errors, write_bytes
from spikeproof.rows import GradientRow, HistoryRow, Line, Row
from spikeproof.store.summary import CellSummary, Provenance, Written
from spikeproof.store.yaml_file import load_yaml

__all__ = ["Cell", "Draft", "Store", "key_of"]

_MODEL_FILES = ("model.safetensors", "model.sha256")
_DATA_FILES = ("config.yaml", "rows.jsonl", "gradients.jsonl", "history.jsonl", "model.safetensors")


def key_of(facts: Any) -> str:
    """16 hex digits that name a JSON-able value; equal values have equal names."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _lines(path: Path) -> list[Any]:
    if not path.is_file():
        return []
    rows: list[Any] = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise SpikeproofError(
                    f"a row of JSON at {path}:{number}", error, mend="delete the cell's folder; it is redone"
                ) from error
    return rows


def _jsonl(rows: Iterable[Line]) -> bytes:
    return "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows).encode()


def _sealed(batch: bytes) -> bytes:
    """A line of a growing stage: a checksum (8 hex digits), a space, the rows."""
    return b"%08x %b\n" % (zlib.crc32(batch), batch)


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
        return dict(load_yaml(self.folder / "config.yaml", "a cell's configuration"))

    @property
    def summary(self) -> CellSummary:
        with open(self.folder / "summary.json", encoding="utf-8") as file:
            found: CellSummary = json.load(file)
        return found

    @property
    def provenance(self) -> Provenance:
        return self.summary["provenance"]

    def rows(self) -> list[Row]:
        return _lines(self.folder / "rows.jsonl")

    def gradients(self) -> list[GradientRow]:
        return _lines(self.folder / "gradients.jsonl")

    def history(self) -> list[HistoryRow]:
        return _lines(self.folder / "history.jsonl")

    def damage(self) -> str | None:
        """What is wrong with the folder, or None: every file must have the sha256 that the summary states."""
        try:
            expected = self.summary["files"]
            for name, sha in expected.items():
                if digest(self.folder / name) != sha:
                    return f"{name} has changed since it was written"
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return f"{type(error).__name__}: {error}"
        return None


@dataclass(frozen=True)
class Draft:
    """A cell being made. Whatever a killed run left in it is used again where it is whole."""

    key: str
    folder: Path

    def done(self, stage: str) -> bool:
        """Whether a stage (a file of rows) has been written; one that is no longer as it was written is set aside."""
        path = self.folder / f"{stage}.jsonl"
        if not path.is_file():
            return False
        if (seal := self._seal(stage)).is_file() and seal.read_bytes().strip() == digest(path).encode():
            return True
        _set_aside(path)
        return False

    def write_stage(self, stage: str, rows: Iterable[Line]) -> None:
        """All rows of one stage at once, whole or not at all."""
        data = _jsonl(rows)
        # The seal first: a kill in between leaves a seal without a stage, which is no stage.
        write_bytes(self._seal(stage), (hashlib.sha256(data).hexdigest() + "\n").encode())
        write_bytes(self.folder / f"{stage}.jsonl", data)

    def _seal(self, stage: str) -> Path:
        return self.folder / f"{stage}.sha256"

    def stage(self, stage: str) -> list[Row]:
        return _lines(self.folder / f"{stage}.jsonl")

    def gradients(self) -> list[GradientRow]:
        """The stage 'gradients', the one that holds no rows of rows.jsonl."""
        return _lines(self.folder / "gradients.jsonl")

    def append(self, stage: str, rows: Sequence[Line]) -> None:
        """More rows of a stage that grows batch by batch; flushed to the disk before it returns."""
        path = self.folder / f"{stage}.part"
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "ab") as file:
                # One line a batch: what a kill tears off is one line, which `batches` leaves out.
                file.write(_sealed(json.dumps(rows, separators=(",", ":")).encode()))
                file.flush()
                os.fsync(file.fileno())

    def batches(self, stage: str) -> list[list[Row]]:
        """The whole batches that a stage has so far; from a torn or damaged line on, the file is cut off."""
        path = self.folder / f"{stage}.part"
        if not path.is_file():
            return []
        data = path.read_bytes()
        batches: list[list[Row]] = []
        whole = 0
        for line in data.splitlines(keepends=True):
            batch = line[9:].rstrip(b"\n")
            if line != _sealed(batch):
                break
            batches.append(json.loads(batch))
            whole += len(line)
        if whole < len(data):
            write_bytes(path, data[:whole])
        return batches

    def close(self, stage: str) -> None:
        """A growing stage is complete: its batches become rows."""
        self.write_stage(stage, (row for batch in self.batches(stage) for row in batch))
        (self.folder / f"{stage}.part").unlink(missing_ok=True)


class Store:
    """A folder of cells. Safe to use from several processes: a key is locked while it is worked on."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def model_folder(self, key: str) -> Path:
        return self.root / "models" / key

    def whole_model(self, key: str) -> Path | None:
        """The weights of a finished network, if they are there and undamaged; a damaged folder is set aside."""
        folder = self.model_folder(key)
        if not folder.is_dir():
            return None
        weights, facts = folder / "model.safetensors", folder / "model.sha256"
        if weights.is_file() and facts.is_file() and facts.read_bytes().strip() == digest(weights).encode():
            with disk_errors(folder):
                _keep_only(folder, _MODEL_FILES)  # a killed run may have renamed the folder and no more
            return weights
        _set_aside(folder)
        return None

    def finish_model(self, draft: Path, key: str) -> Path:
        """Give the folder of a trained network its checksum and its final name; returns the weights' file."""
        folder = self.model_folder(key)
        write_bytes(draft / "model.sha256", (digest(draft / "model.safetensors") + "\n").encode())
        with disk_errors(folder):
            # The checkpoint goes last: were it gone before the rename, a kill in between would lose the training.
            os.rename(draft, folder)
            _keep_only(folder, _MODEL_FILES)
        return folder / "model.safetensors"

    def lock(self, key: str, *, wait: bool = True) -> FileLock:
        """To be entered; where another process has it: waited for, or with wait=False filelock.Timeout."""
        folder = self.root / "locks"
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{key}.lock", timeout=-1 if wait else 0)

    def locked(self, key: str) -> bool:
        """Whether some process is at it."""
        if not (self.root / "locks" / f"{key}.lock").is_file():
            return False
        try:
            with self.lock(key, wait=False):
                return False
        except Timeout:
            return True

    def draft(self, key: str) -> Draft:
        folder = self.root / "cells" / f"{key}.partial"
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return Draft(key, folder)

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
        """Give a draft its last files and its final name; whatever else is in it goes."""
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        write_bytes(draft.folder / "config.yaml", text.encode())
        with disk_errors(draft.folder):
            shutil.copyfile(model, draft.folder / "model.safetensors")
        files = {name: digest(draft.folder / name) for name in _DATA_FILES if (draft.folder / name).is_file()}
        body = json.dumps({"key": draft.key, **summary, "files": files}, indent=1)
        write_bytes(draft.folder / "README.md", card.encode())
        write_bytes(draft.folder / "summary.json", (body + "\n").encode())
        final = self.root / "cells" / draft.key
        with disk_errors(final):
            # Stages, which are in rows.jsonl now, and what a killed run left half written.
            _keep_only(draft.folder, (*_DATA_FILES, "README.md", "summary.json"))
            os.rename(draft.folder, final)
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
