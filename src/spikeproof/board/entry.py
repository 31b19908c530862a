"""An entry: one network under one threat, as one JSON file, read with nothing taken on trust.

`entry.schema.json` says what fields there are; here they are held against one another: every number that follows from
the outcomes of the images must be the one that they give.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from spikeproof.board._fits import standing, unfit, unlike_files
from spikeproof.board._schema import fault, schema
from spikeproof.errors import SpikeproofError
from spikeproof.files import write_bytes
from spikeproof.limits import PACKED_BYTES
from spikeproof.metrics.robustness import Interval, clopper_pearson
from spikeproof.metrics.verdict import NOT_EVALUATED, UNSETTLED

__all__ = ["SCHEMA", "Entry", "read", "written"]

SCHEMA = "spikeproof-entry-1"
"""The version of the schema; a change of what a field means makes another."""

_MEND = "make it again with `spikeproof entry`"


@dataclass(frozen=True)
class Entry:
    """A checked entry: `tree` is the JSON, `path` where it lies."""

    path: Path
    tree: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.tree[name]

    @property
    def name(self) -> str:
        return str(self["identity"]["name"])

    @property
    def total(self) -> int:
        return int(self["data"]["images"])

    @cached_property
    def standing(self) -> frozenset[int]:
        """The ids of the images that are right and that nobody has broken, attackers of others included."""
        return frozenset(standing(self["outcomes"])) - {id for one in self["lowered"] for id in one["ids"]}

    @property
    def worst(self) -> Interval | None:
        """The worst case over the panel and over all that has lowered it since; None where nothing was evaluated."""
        return None if self["result"]["worst"] is None else clopper_pearson(len(self.standing), self.total)

    @property
    def fell(self) -> int:
        """How many images inputs of others have broken."""
        return len({id for one in self["lowered"] for id in one["ids"]})

    @property
    def verdict(self) -> str:
        """That of the panel; but what fell further than its slack foresaw was not settled."""
        slack = self["readings"]["slack"]
        further = slack is not None and self.fell > round(slack["high"] * self.total)
        return UNSETTLED if further and self["result"]["verdict"] != NOT_EVALUATED else str(self["result"]["verdict"])


def read(path: Path) -> Entry:
    """The entry at `path`. SpikeproofError, which names the field, where it is none, is one of another version, or has
    a field that does not fit the others or the files beside it."""
    tree = _loaded(path)
    if isinstance(tree, dict) and tree.get("schema") != SCHEMA:
        mend = "make it again with this version of spikeproof, or read it with the one that made it"
        raise SpikeproofError(f"schema {SCHEMA!r} in {path}", ascii(tree.get("schema"))[:80], mend=mend)
    found = fault(tree, schema())
    if found is None:
        assert isinstance(tree, dict)
        found = next(unfit(tree), None) or next(unlike_files(path.parent, tree["files"]), None)
    if found is not None:
        raise SpikeproofError(f"{found.field} of an entry in {path}", found.says, mend=_MEND)
    assert isinstance(tree, dict)
    return Entry(path, tree)


def written(path: Path, tree: Mapping[str, Any]) -> Entry:
    """The entry, written; refused as `read` does, with nothing written."""
    if (found := fault(tree, schema()) or next(unfit(tree), None)) is not None:
        raise SpikeproofError(f"{found.field} of an entry", found.says)
    # The four long lists stand a line each, so that a reader and a diff see the rest.
    rest = json.dumps({name: value for name, value in tree.items() if name != "outcomes"}, indent=1)
    lists = ",\n".join(f"  {json.dumps(name)}: {_line(values)}" for name, values in tree["outcomes"].items())
    text = f'{rest[:-2]},\n "outcomes": {{\n{lists}\n }}\n}}'
    write_bytes(path, f"{text}\n".encode())
    return Entry(path, tree)


def _line(values: Sequence[int]) -> str:
    return json.dumps(values, separators=(",", ":"))


def _loaded(path: Path) -> object:
    try:
        if not path.is_file():
            raise ValueError("no such file")
        if (size := path.stat().st_size) > PACKED_BYTES:
            raise ValueError(f"{size} bytes, more than {PACKED_BYTES}")
        tree = json.loads(path.read_bytes(), object_pairs_hook=_once, parse_constant=_no_number)
        json.dumps(tree, ensure_ascii=False).encode()  # half a character is none, and no page can show it
    except (OSError, ValueError, RecursionError) as error:
        raise SpikeproofError(f"an entry of a board, as JSON, at {path}", error, mend=_MEND) from error
    return tree


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the field {next(name for name in names if names.count(name) > 1)!a} twice")
    return tree


def _no_number(word: str) -> float:
    raise ValueError(f"{word}, which is no number of JSON")
