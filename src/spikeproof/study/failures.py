"""What went wrong with a cell on some machine, left in the study's folder until the cell is done: for telling only."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from spikeproof.errors import SpikeproofError
from spikeproof.files import write_bytes
from spikeproof.store.at_work import myself, owner_of
from spikeproof.store.store import Store

__all__ = ["failure", "forget_failure", "note_failure"]

_LONGEST = 2000
"""Characters of an error that are kept."""


def _path(store: Store, key: str) -> Path:
    return store.root / "failures" / f"{key}.json"


def note_failure(store: Store, key: str, error: str) -> None:
    """Where the disk refuses even that, the worker's own output tells of it."""
    with suppress(SpikeproofError):
        write_bytes(_path(store, key), json.dumps({**myself(), "error": error[:_LONGEST]}).encode())


def forget_failure(store: Store, key: str) -> None:
    with suppress(OSError):
        _path(store, key).unlink()


def failure(store: Store, key: str) -> str | None:
    """The last error of a cell, and where it came up; None where none is known."""
    with suppress(OSError, ValueError):
        path = _path(store, key)
        facts = json.loads(path.read_bytes()) if path.stat().st_size < 10 * _LONGEST else None
        if isinstance(facts, dict) and isinstance(error := facts.get("error"), str):
            line = "".join(c for c in error[:_LONGEST] if c.isprintable())
            owner = owner_of(facts)
            return line if owner is None else f"{line} ({owner.job or 'a worker'} on {owner.host})"
    return None
