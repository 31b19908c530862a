"""How far a study is, read from its folder alone; nothing there is changed, so it may be asked while others run it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from spikeproof.errors import SpikeproofError
from spikeproof.store.store import Cell, Store
from spikeproof.study.failures import failure
from spikeproof.study.kept import Called

__all__ = ["STATES", "State", "states", "there"]

STATES = ("finished", "running", "partial", "missing", "damaged")


class State(NamedTuple):
    """A cell's name, its key, one of STATES, and how far it is or what is wrong with it."""

    name: str
    key: str
    state: str
    detail: str


def states(cells: Sequence[Called], store: Store) -> list[State]:
    """The state of every cell, in order."""
    return [State(one.name, one.key, *_state(one, store)) for one in cells]


def there(store: Store) -> list[State]:
    """The state of every cell that a folder has, begun or finished, whatever asked for it; one that is not finished has
    no name yet."""
    folders = [path for path in store.root.glob("cells/*") if path.suffix in ("", ".partial")]
    return [
        State(_name(Cell(key, store.root / "cells" / key)), key, *_state(Called("", key, None, 0), store))
        for key in sorted({path.stem for path in folders if path.is_dir()})
    ]


def _name(cell: Cell) -> str:
    return str(cell.config.get("name")) if cell.folder.is_dir() and cell.damage() is None else "-"


def _state(one: Called, store: Store) -> tuple[str, str]:
    cell = Cell(one.key, store.root / "cells" / one.key)
    if cell.folder.is_dir():
        damage = cell.damage()
        return ("finished", "") if damage is None else ("damaged", damage)
    at_work = store.locked(one.key)
    stage = _stage(one, store)
    if at_work:
        owner = store.owner(one.key)
        return "running", (stage or "starting") + ("" if owner is None else f"; {owner}")
    wrong = failure(store, one.key)
    told = "; ".join(filter(None, [stage, wrong and f"failed: {wrong}"]))
    return ("partial", told) if stage else ("missing", told)


def _stage(one: Called, store: Store) -> str:
    """The last thing that the files of an unfinished cell tell of."""
    growing = _last(store.root / "cells" / f"{one.key}.partial")
    if growing is not None:
        lines = growing.read_bytes().count(b"\n")
        return f"{growing.stem}, {lines} batches" if growing.suffix == ".part" else f"{growing.stem} done"
    if one.model is None:
        return ""
    if store.model_folder(one.model).is_dir():
        return "trained"
    checkpoint = store.model_folder(one.model).with_name(f"{one.model}.partial") / "checkpoint.safetensors"
    if not checkpoint.is_file():
        return ""
    from spikeproof.training.checkpoint import read_header  # and torch, which nothing else here asks for
    from spikeproof.training.facts import facts_of

    try:
        epochs = len(facts_of(read_header(checkpoint), checkpoint)["history"])
    except (SpikeproofError, OSError, KeyError):
        return ""
    return f"training, {epochs} of {one.epochs} epochs"


def _last(draft: Path) -> Path | None:
    """The file of a draft that was written last, a growing one first."""
    files = [*draft.glob("*.part")] or [*draft.glob("*.jsonl")]
    return max(files, key=lambda path: path.stat().st_mtime_ns, default=None)
