"""A study small enough for a repository: one `<key>.json.xz` for each finished cell, from which its page is made again.

Every row of rows.jsonl and history.jsonl is there, and those of gradients.jsonl without their time steps, which no page
reads; the network is not. Rows lie as columns, because equal things side by side take no room. `xz -dc` shows the JSON:

    {"format": 1, "key": ..., "config": ..., "summary": ..., "rows": TABLE, "gradients": TABLE, "history": TABLE}

A TABLE is told in `store.table`.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from spikeproof.errors import SpikeproofError
from spikeproof.files import write_bytes
from spikeproof.limits import PACKED_BYTES, PACKED_VALUES
from spikeproof.lines import Lines
from spikeproof.rows import GradientRow, HistoryRow, Row, refuse_foreign
from spikeproof.store.store import Cell, check_config
from spikeproof.store.summary import CellSummary, Provenance, same_seal
from spikeproof.store.table import Table, table_of

__all__ = ["PackedCell", "pack", "packed_cells", "packed_files"]

_FORMAT = 1
_END = ".json.xz"
_BEGINNING = 16_384  # bytes, unpacked, in which the configuration of nearly every cell has room
_MEMORY = 100_000_000  # bytes for unpacking: the preset that `pack` uses asks for 65 MB


def pack(cells: Sequence[Cell], folder: Path) -> list[Path]:
    """Write the cells into `folder`; the same cells give the same bytes. Files of other cells there are left alone.
    SpikeproofError, which names the field, for a cell with a row of no known type."""
    written = []
    for cell in cells:
        rows, gradients, history = cell.rows(), cell.gradients(), cell.history()
        for lines in (rows, gradients, history):
            refuse_foreign(lines)
        tree = {
            "format": _FORMAT,
            "key": cell.key,
            "config": cell.config,
            "summary": cell.summary,
            "rows": table_of(rows).tree,
            "gradients": table_of({k: v for k, v in row.items() if k != "steps"} for row in gradients).tree,
            "history": table_of(history).tree,
        }
        text = json.dumps(tree, separators=(",", ":")).encode()
        path = folder / f"{cell.key}{_END}"
        write_bytes(path, lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))
        written.append(path)
    return written


def packed_files(folder: Path) -> list[Path]:
    """The files of the packed cells of a folder."""
    return sorted(folder.glob(f"*{_END}"))


def packed_cells(folder: Path) -> list[PackedCell]:
    """The packed cells of a folder, by the name in their configuration. Raises SpikeproofError for one whose beginning
    is damaged; what is damaged behind it is found where the rows are asked for."""
    cells = [PackedCell(path) for path in packed_files(folder)]
    return sorted(cells, key=lambda cell: str(cell.config.get("name", cell.key)))


@dataclass(frozen=True, eq=False)
class PackedCell:
    """A cell as `pack` wrote it: what a report reads of one. The whole of one cell is held at a time, of the last that
    was read; its configuration is read from the beginning of the file, and kept."""

    path: Path

    @property
    def _tree(self) -> dict[str, Any]:
        return _whole(self)

    @property
    def key(self) -> str:
        return self.path.name.removesuffix(_END)

    @property
    def folder(self) -> Path:
        return self.path.parent

    @property
    def config(self) -> dict[str, Any]:
        return dict(self._config)

    @cached_property
    def _config(self) -> dict[str, Any]:
        found = _begun(self.path, self.key)
        return _checked(self)["config"] if found is None else found

    @property
    def summary(self) -> CellSummary:
        found: CellSummary = self._tree["summary"]
        return found

    @property
    def provenance(self) -> Provenance:
        return self.summary["provenance"]

    def rows(self) -> Lines[Row]:
        return Table(self._tree["rows"])

    def gradients(self) -> Lines[GradientRow]:
        return Table(self._tree["gradients"])

    def history(self) -> Lines[HistoryRow]:
        return Table(self._tree["history"])


@lru_cache(maxsize=1)
def _whole(cell: PackedCell) -> dict[str, Any]:
    """A page asks for what is in a cell one after another, and for no other cell meanwhile."""
    return _checked(cell)


def _checked(cell: PackedCell) -> dict[str, Any]:
    """Everything that a file says; SpikeproofError where it is no packed cell of this name."""
    try:
        tree = json.loads(_unpacked(cell.path))
        if tree["format"] != _FORMAT or tree["key"] != cell.key:
            raise ValueError(f"format {tree['format']}, key {tree['key']}")
        if not same_seal(tree["summary"]):
            raise ValueError("its summary has changed since it was written")
        check_config(tree["config"])
        if tree["config"] != vars(cell).get("_config", tree["config"]):
            raise ValueError("it says two configurations, or has changed since it was first read")
        for name in ("rows", "gradients", "history"):
            _check(tree[name])
    except (OSError, lzma.LZMAError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        wanted = f"a packed cell of format {_FORMAT} at {cell.path}"
        raise SpikeproofError(wanted, error, mend="pack the study again") from error
    return dict(tree)


def _begun(path: Path, key: str) -> dict[str, Any] | None:
    """The configuration, if it stands as `pack` writes it within the first bytes of a file; None where it does not, so
    that the whole file is asked. Cells are named and put in order before any of them is read."""
    try:
        start = f'{{"format":{_FORMAT},"key":{json.dumps(key)},"config":'
        text = _unpacked(path, _BEGINNING).decode(errors="ignore")
        return check_config(json.JSONDecoder().raw_decode(text, len(start))[0]) if text.startswith(start) else None
    except (OSError, lzma.LZMAError, ValueError, RecursionError, SpikeproofError):
        return None


def _unpacked(path: Path, most: int | None = None) -> bytes:
    """The bytes that a file was packed from, or the first of them; no more than PACKED_BYTES are ever made."""
    if (size := path.stat().st_size) > PACKED_BYTES:
        raise ValueError(f"a file of {size} bytes, more than {PACKED_BYTES}")
    unpacking = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)
    if most is not None:
        return unpacking.decompress(path.read_bytes(), max_length=most)
    text = unpacking.decompress(path.read_bytes(), max_length=PACKED_BYTES + 1)
    if len(text) > PACKED_BYTES:
        raise ValueError(f"more than {PACKED_BYTES} bytes unpacked")
    if not unpacking.eof or unpacking.unused_data:
        raise ValueError("a file without its end, or with more behind it")
    return text


def _check(table: Mapping[str, Any]) -> None:
    """ValueError unless a table's rows are as many as its columns say, and its values at most PACKED_VALUES."""
    sizes = [0] * len(table["kinds"])
    for kind, count in table["order"]:
        if type(kind) is not int or type(count) is not int or not 0 <= kind < len(sizes) or count < 1:
            raise ValueError(f"{count!r} rows of kind {kind!r}")
        sizes[kind] += count
    values = sum(
        size * max(1, sum(map(_fields, kind.values()))) for size, kind in zip(sizes, table["kinds"], strict=True)
    )
    if values > PACKED_VALUES:
        raise ValueError(f"{values} values in {sum(sizes)} rows, more than {PACKED_VALUES}")
    for size, kind in zip(sizes, table["kinds"], strict=True):
        for column in kind.values():
            _check_column(column, size)
        if size > 1 and all(map(_constant, kind.values())):  # a few bytes, whatever they claim
            raise ValueError(f"{size} equal rows")


def _constant(column: Any) -> bool:
    """Whether a column says the same of every row."""
    return isinstance(column, dict) and ("all" in column or all(map(_constant, column["each"].values())))


def _fields(column: Any) -> int:
    """How many fields a column makes of each row."""
    return 1 + sum(map(_fields, column["each"].values())) if isinstance(column, dict) and "each" in column else 1


def _check_column(column: Any, size: int) -> None:
    if isinstance(column, list) and len(column) != size:
        raise ValueError(f"a column of {len(column)} values for {size} rows")
    if isinstance(column, dict) and "all" not in column:
        for inner in column["each"].values():
            _check_column(inner, size)
    elif not isinstance(column, list | dict):
        raise ValueError(f"a column {type(column).__name__}")
