"""A whole folder of results looked at: what is damaged, what its rows do not give, and what was left there.

`Cell.damage` compares digests, which says that nothing has changed since it was sealed. Here the rows are read, and
every number of the summary is worked out from them anew. Nothing is changed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import spikeproof
from spikeproof.errors import SpikeproofError
from spikeproof.rows import refuse_foreign, refuse_twice
from spikeproof.store.card import card
from spikeproof.store.packed import PackedCell, packed_files
from spikeproof.store.store import Cell, Store
from spikeproof.study.stages import results
from spikeproof.training.checkpoint import read_header
from spikeproof.training.facts import facts_of

__all__ = ["Finding", "fault", "inspect"]

_CLOSE = 1e-9
"""Two machines may add the same numbers up in another order."""


_READINGS = ("verdict", "gap", "power", "slack")
"""What is said of numbers, by a rule that another version may have had another of."""


class Finding(NamedTuple):
    """Something that is not as a run leaves it when it ends. wrong: whether a number may be false or lost by it."""

    path: Path
    says: str
    wrong: bool


def inspect(folder: Path) -> Iterator[Finding]:
    """Everything there is to say of a store, or of a folder of packed cells; nothing where all is well."""
    store = Store(folder)
    for cell in store.folders():
        if (said := cell.damage() or _unlike_its_model(cell) or fault(cell) or _unlike_its_card(cell)) is not None:
            yield Finding(cell.folder, said, True)
    for path in packed_files(folder):
        if (said := fault(PackedCell(path))) is not None:
            yield Finding(path, said, True)
    for key in store.models():
        if (said := store.model_damage(key)) is not None:
            yield Finding(store.model_folder(key), said, True)
    yield from _left(store)


def fault(cell: Cell | PackedCell) -> str | None:
    """What is wrong with the rows of a cell, or where they give another summary than the one it has."""
    try:
        rows, gradients, history = cell.rows(), cell.gradients(), cell.history()
        for lines in (rows, gradients, history):
            refuse_foreign(lines)
            refuse_twice(lines)
        found = json.loads(json.dumps(results(rows, gradients)))
        where = _first_unlike(*(_numbers(cell, tree) for tree in (cell.summary["results"], found)))
    except SpikeproofError as error:
        return str(error)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, ZeroDivisionError) as error:
        return f"its rows give no summary: {type(error).__name__}: {error}"
    return None if where is None else f"its rows do not give its summary, at {where}{_version(cell)}"


def _numbers(cell: Cell | PackedCell, tree: Any) -> Any:
    """A summary; of a cell of another version without what is said of its numbers."""
    if not _version(cell):
        return tree
    if isinstance(tree, dict):
        return {name: _numbers(cell, value) for name, value in tree.items() if name not in _READINGS}
    return [_numbers(cell, value) for value in tree] if isinstance(tree, list) else tree


def _version(cell: Cell | PackedCell) -> str:
    made_by = cell.provenance.get("spikeproof")
    return "" if made_by == spikeproof.__version__ else f" (it is of spikeproof {made_by}, which may have counted so)"


def _first_unlike(one: Any, other: Any, where: str = "results") -> str | None:
    """The place of the first value that two trees do not share."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        pairs = [(f"{where}.{name}", one[name], other[name]) for name in one]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = [(f"{where}[{number}]", *pair) for number, pair in enumerate(zip(one, other, strict=True))]
    else:
        return None if _same(one, other) else where
    found = (_first_unlike(a, b, place) for place, a, b in pairs)
    return next((place for place in found if place is not None), None)


def _same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_CLOSE, abs_tol=_CLOSE) or (math.isnan(one) and math.isnan(other))
    return type(one) is type(other) and one == other


def _unlike_its_model(cell: Cell) -> str | None:
    """The network beside the rows carries the history of its training, if it was trained here."""
    weights = cell.folder / "model.safetensors"
    try:
        same = facts_of(read_header(weights), weights).get("history", []) == cell.history()
    except SpikeproofError as error:
        return str(error)
    return None if same else "history.jsonl is not the history that model.safetensors carries"


def _unlike_its_card(cell: Cell) -> str | None:
    """Of a cell of this version: another one may have worded its card otherwise."""
    if cell.provenance.get("spikeproof") != spikeproof.__version__ or "README.md" not in cell.summary["files"]:
        return None
    found = (cell.folder / "README.md").read_text(encoding="utf-8")
    try:
        expected = card(cell.config, cell.summary)
    except (KeyError, TypeError, AttributeError) as error:
        return f"its configuration makes no card: {type(error).__name__}: {error}"
    return None if found == expected else "README.md is not the card of its summary"


def _left(store: Store) -> Iterator[Finding]:
    """What is no result: drafts, what was set aside, and what killed runs left half written."""
    for path in sorted([*store.root.glob("cells/*.*"), *store.root.glob("models/*.*")]):
        if path.suffix == ".partial":
            model = "model-" if path.parent.name == "models" else ""
            at_work = store.locked(f"{model}{path.stem}")
            says = "in work" if at_work else "not finished: the command that began it goes on from here"
            yield Finding(path, says, False)
        elif ".damaged-" in path.name:
            yield Finding(path, "was damaged and set aside; delete it when you have looked at it", False)
    for path in sorted([*store.root.glob("cells/*/.*.tmp"), *store.root.glob("models/*/.*.tmp")]):
        if path.parent.suffix != ".partial":
            yield Finding(path, "half a file that a killed run left; delete it", False)
