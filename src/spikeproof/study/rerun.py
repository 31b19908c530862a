"""A finished cell, run again from the configuration beside its results, and compared row for row."""

from __future__ import annotations

import json
from itertools import zip_longest
from pathlib import Path

from spikeproof.errors import UsageError
from spikeproof.store.store import Cell, Store
from spikeproof.study.config import again_config
from spikeproof.study.run import Machine, code_of, run_cell

__all__ = ["differences", "find", "reproduce"]

_ROWS = ("rows.jsonl", "gradients.jsonl", "history.jsonl")


def find(store: Store, key: str) -> Cell:
    """The finished, whole cell whose key begins so; UsageError where there is none, more than one, or a damaged one."""
    cells = store.folders()
    found = [cell for cell in cells if cell.key.startswith(key)]
    if len(found) != 1 or not key:
        keys = [f"{cell.key} ({cell.config.get('name')})" for cell in found or cells if cell.damage() is None]
        raise UsageError(f"the key of one finished cell under {store.root}", repr(key), valid=keys)
    if damage := found[0].damage():
        mend = "run its study again: a damaged cell is set aside and redone"
        raise UsageError(f"a whole cell at {found[0].folder}", damage, mend=mend)
    return found[0]


def reproduce(cell: Cell, into: Store, machine: Machine, *, anyway: bool = False, trust: bool = False) -> Cell:
    """Run the cell again into another store, which must not have it yet; a stopped run goes on there.

    Raises UsageError where the cell names code that is not spikeproof's, unless `trust`; and, with both named, where
    the sources that run are not those of the cell, unless `anyway`.
    """
    past, config = cell.provenance, again_config(cell, trust=trust)
    if past.get("code") != code_of(config) and not anyway:
        got = f"code {past.get('code')} of spikeproof {past.get('spikeproof')}, where this is {code_of(config)}"
        own = "" if config.network is None else f", and {config.network.make!r} and its weights as they were"
        mend = f"install that version{own}, or --anyway to see what has changed"
        raise UsageError(f"a cell of the version that runs, for {cell.key}", got, mend=mend)
    known = {other.key for other in into.folders()}
    again = run_cell(config, into, machine)
    if again.key in known:
        mend = "delete it, or --into another"
        raise UsageError(f"a folder without this cell: {into.root}", again.folder, mend=mend)
    return again


def differences(one: Cell, other: Cell, limit: int = 5) -> list[str]:
    """The first rows in which two cells differ, as text; none where every row of every file is the same."""
    found: list[str] = []
    for name in _ROWS:
        pairs = zip_longest(_lines(one.folder / name), _lines(other.folder / name))
        unlike = [(number, *pair) for number, pair in enumerate(pairs, start=1) if pair[0] != pair[1]]
        found += [f"{name}:{number}: {_unlike(a, b)}" for number, a, b in unlike[:limit]]
        if len(unlike) > limit:
            found.append(f"{name}: {len(unlike)} rows differ in all")
    return found


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _unlike(a: str | None, b: str | None) -> str:
    """The fields in which two rows differ, first the stored value, then the new one."""
    if a is None or b is None:
        return "no such row any more" if b is None else "a row that was not there"
    old, new = json.loads(a), json.loads(b)
    fields = [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
    where = {name: old[name] for name in ("image", "evaluation", "attack", "site") if name in old}
    return f"{where}: " + ", ".join(f"{name} {old.get(name)!r} -> {new.get(name)!r}" for name in fields)
