"""What a study's cells are called in its store, kept there as its last run worked it out.

Working it out takes torch, every part that is named, and all images. As long as nothing has changed that it was worked
out from (`_seal`), `status` reads it from here, in a tenth of the time; otherwise it works it out anew. Whoever wrote
the file: no path is looked at that the study does not name.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from spikeproof.files import digest, write_bytes
from spikeproof.limits import PACKED_BYTES, check_name
from spikeproof.store.sources import package
from spikeproof.store.store import Store, key_of
from spikeproof.store.yaml_file import load_yaml

__all__ = ["Called", "called", "keep", "kept"]

_FILE = "plan.json"
_PACKAGES = ("torch", "numpy", "scikit-learn", "jsonargparse")


class Called(NamedTuple):
    """A cell's name, its key, that of its network (None where its weights are given), and its epochs of training."""

    name: str
    key: str
    model: str | None
    epochs: int


def keep(
    store: Store, file: Path, device: str, cells: Iterable[Called], configurations: Iterable[Mapping[str, Any]]
) -> None:
    """Write down how the cells of a study's file are called on a kind of device; of their resolved configurations,
    whatever lies outside the package is remembered as it is. Parts of a user's own are not, nor a folder of data that
    the study leaves to a part: then nothing is kept."""
    texts = {text for one in configurations for text in _texts(one)}
    outside = sorted(filter(_is_there, texts))
    own = any(":" in text for text in texts if text not in outside) or not _named(file).issuperset(outside)
    facts = {"outside": outside, "cells": list(cells), "seal": None if own else _seal(file, device, outside)}
    write_bytes(store.root / _FILE, json.dumps(facts).encode())


def kept(store: Store, file: Path, device: str) -> list[Called] | None:
    """The cells as `keep` wrote them; None where it did not, or where something has changed since."""
    path = store.root / _FILE
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        facts = json.loads(path.read_bytes()) if path.stat().st_size < PACKED_BYTES else {}
        if _named(file).issuperset(facts["outside"]) and facts["seal"] == _seal(file, device, facts["outside"]):
            return [called(*cell) for cell in facts["cells"]]
    return None


def called(name: str, key: str, model: str | None, epochs: int) -> Called:
    """A cell as it stands in the file; ValueError where it cannot be one."""
    check_name("the name of a cell", name)
    if type(epochs) is not int or not all(re.fullmatch("[0-9a-f]+", one) for one in (key, model or key)):
        raise ValueError(f"{name}: {key}, {model}, {epochs}")
    return Called(name, key, model, epochs)


def _named(file: Path) -> set[str]:
    """Every text that is a value in a study's file."""
    return {*_texts(load_yaml(file, "a study"))}


def _is_there(text: str) -> bool:
    """Whether a text of a configuration is also the path of something; most are names of parts, and some of no file."""
    with suppress(OSError, RuntimeError, ValueError):  # too long for a path; the home of nobody; a NUL
        return bool(text) and Path(text).expanduser().exists()
    return False


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)


def _seal(file: Path, device: str, outside: Iterable[str]) -> str:
    """A hash of all that decides names and keys: the study, the sources that run, where they run, and of files of data
    and weights the size and the time of their last change."""
    sources = package()
    compilers = [shutil.which(name) for name in ("cc", "gcc", "clang")]  # they decide the form of the scan
    switched = os.environ.get("SPIKEPROOF_FAST")
    packages = {name: version(name) for name in _PACKAGES}
    machine = [platform.python_version(), platform.machine(), compilers, switched, device]
    return key_of([digest(file), sources.digest(sources.texts), packages, machine, [*_stamps(outside)]])


def _stamps(paths: Iterable[str]) -> Iterator[tuple[str, int, int]]:
    for text in paths:
        root = Path(text).expanduser()
        for path in [root, *sorted(root.rglob("*"))]:
            found = path.stat()
            yield str(path), found.st_size, found.st_mtime_ns
