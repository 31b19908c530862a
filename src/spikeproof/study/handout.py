"""The plan of a study, written into its folder for workers that any scheduler starts, on whatever machine.

    plans/<digest>.jsonl    a line of what the planning run was, then one for each cell with its resolved configuration

The name is the digest of the bytes, so a worker that is told it sees the very plan, or none; a random word among them
tells this folder from one of the same path on another machine's own disk. What a worker is to make has the key that was
planned, or it is refused: other data, other sources, another form of the scan give other keys.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch

import spikeproof
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.files import digest, write_bytes
from spikeproof.limits import check_name
from spikeproof.store.keys import code_digest
from spikeproof.store.locks import Lock
from spikeproof.store.store import Store
from spikeproof.study.config import CellConfig, cell_from
from spikeproof.study.kept import called
from spikeproof.study.plan import Planned
from spikeproof.study.run import run_cell
from spikeproof.study.trained import Machine
from spikeproof.trust import stored

__all__ = ["MAY_DIFFER", "Handed", "Handout", "PlannedStore", "hand_out", "read"]

MAY_DIFFER = ("spikeproof", "torch", "numpy", "python")
"""What a worker may be told to allow in another version than that of the run that planned."""

_FORM = 1


class Handed(NamedTuple):
    """A cell as it was planned; model: the key of the network that it trains, None where it has its weights."""

    name: str
    key: str
    model: str | None
    tree: dict[str, Any]

    def config(self, where: object, *, trust: bool) -> CellConfig:
        """Its configuration. Raises UsageError where it names code that is not spikeproof's, unless `trust`."""
        with stored(where, trust=trust):
            return cell_from(self.tree)


@dataclass(frozen=True)
class Handout:
    """A plan that was read: where it lies, its digest, what the planning run was, and its cells in their order."""

    path: Path
    digest: str
    facts: dict[str, Any]
    cells: list[Handed]

    def refuse_others(self, allowed: Sequence[str] = ()) -> None:
        """Raises UsageError where this process runs other versions than the run that planned; allowed: names of
        MAY_DIFFER that need not be the same."""
        if unknown := sorted({*allowed} - {*MAY_DIFFER}):
            raise UsageError("something that may be of another version", repr(unknown[0]), valid=MAY_DIFFER)
        for name, ours in _versions().items():
            if name not in allowed and self.facts.get(name) != ours:
                mend = f"install that one here, or --allow {name}, and mind that rows may differ in their last digits"
                raise UsageError(f"{name} {self.facts.get(name)}, which planned {self.path}", ours, mend=mend)


class PlannedStore(Store):
    """A store in which nothing is made but what a plan has: a cell whose key comes out otherwise is refused."""

    def __init__(self, root: Path, patience: float | None, keys: frozenset[str]) -> None:
        super().__init__(root, patience)
        self._keys = keys

    def lock(self, key: str, *, wait: bool = True) -> AbstractContextManager[Lock]:
        if key not in self._keys:
            mend = "have the same data, sources, compiler and kind of device on every machine, or plan the study here"
            raise UsageError("a cell as it was planned", f"{key}, which is of other data, sources or device", mend=mend)
        return super().lock(key, wait=wait)

    @classmethod
    def of(cls, root: Path, patience: float | None, cells: Sequence[Handed]) -> PlannedStore:
        models = {f"model-{one.model}" for one in cells if one.model is not None}
        return cls(root, patience, frozenset({*models, *(one.key for one in cells)}))


def _versions() -> dict[str, str]:
    """Of what decides a number, here; spikeproof's is its version and its sources."""
    code = code_digest(run_cell.__module__)
    named = {"torch": torch.__version__.partition("+")[0], "numpy": version("numpy")}
    return {"spikeproof": f"{spikeproof.__version__}, code {code}", **named, "python": _python()}


def _python() -> str:
    from platform import python_version_tuple

    return ".".join(python_version_tuple()[:2])


def hand_out(store: Store, planned: Sequence[Planned], machine: Machine, threads: int, title: str) -> str:
    """Write a plan into its folder; returns its digest, the same as before where the same was planned there before."""
    facts = {"form": _FORM, "title": title, "device": machine.device, "threads": threads, **_versions()}
    cells = [[one.config.name, one.key, one.model, one.resolved] for one in planned]
    lines = "".join(json.dumps(cell) + "\n" for cell in cells)
    for path in _plans(store):
        first, _, rest = path.read_text(encoding="utf-8").partition("\n")
        if rest == lines and _without_word(first) == facts:
            os.utime(path)
            return path.stem
    text = json.dumps({**facts, "word": os.urandom(8).hex()}) + "\n" + lines
    name = sha256(text.encode()).hexdigest()[:16]
    write_bytes(store.root / "plans" / f"{name}.jsonl", text.encode())
    return name


def _without_word(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return {name: value for name, value in found.items() if name != "word"} if isinstance(found, dict) else {}


def _plans(store: Store) -> list[Path]:
    """Every plan of a folder, the latest first."""
    found = [path for path in store.root.glob("plans/*.jsonl") if not path.name.startswith(".")]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def read(store: Store, wanted: str | None = None) -> Handout:
    """The plan of that digest, or the latest. Raises UsageError where there is none, or other bytes than planned."""
    there = _plans(store)
    path = store.root / "plans" / f"{wanted}.jsonl" if wanted else (there or [store.root / "plans"])[0]
    what = f"the plan {wanted} in {store.root}" if wanted else f"a planned study in {store.root}"
    if not path.is_file():
        mend = "a folder that every machine sees under this path" if wanted else "spikeproof study FILE --plan --out"
        raise UsageError(what, "another one" if there else "none", mend=mend)
    if (found := digest(path)[:16]) != path.stem:
        raise UsageError(what, f"other bytes, {found}", mend="start the study again, which writes it anew")
    with open(path, encoding="utf-8") as file:
        try:
            facts, *cells = map(json.loads, file)
            return Handout(path, path.stem, _facts(facts), [_handed(*cell) for cell in cells])
        except (ValueError, TypeError) as error:
            raise SpikeproofError(what, error, mend="start the study again, which writes it anew") from error


def _facts(found: Any) -> dict[str, Any]:
    if not isinstance(found, dict) or found.get("form") != _FORM:
        raise ValueError("of another form")
    if not isinstance(found.get("device"), str) or type(found.get("threads")) is not int:
        raise ValueError("without a device and threads")
    return found


def _handed(name: str, key: str, model: str | None, tree: Any) -> Handed:
    """A cell as it stands in the file; ValueError where it cannot be one."""
    check_name("the name of a cell", name)
    called(name, key, model, 0)
    if not isinstance(tree, dict):
        raise ValueError(f"{name}: no configuration")
    return Handed(name, key, model, tree)
