"""What a command is given by name: a study of its own file or a shipped one, and a folder of finished cells."""

from __future__ import annotations

from pathlib import Path

import spikeproof
from spikeproof.errors import UsageError
from spikeproof.store.packed import PackedCell, packed_cells
from spikeproof.store.store import Cell, Store
from spikeproof.store.yaml_file import load_yaml

__all__ = ["STUDIES", "finished", "shipped", "shown", "study_file"]

STUDIES = Path(spikeproof.__file__).parent / "studies"
"""Where the studies lie that come with the package."""


def shipped() -> list[str]:
    """The names of the studies that come with the package."""
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


def study_file(name: str) -> Path:
    """A path where there is a file, a shipped study's otherwise. Raises UsageError where there is neither, and where
    the file is no YAML or beyond the limits: at once, before torch is imported."""
    path = Path(name)
    if not path.exists() and name not in shipped():
        raise UsageError("a study's YAML, or a shipped one", repr(name), valid=shipped())
    path = path if path.exists() else STUDIES / f"{name}.yaml"
    if path.is_file():  # a pipe can be read once
        load_yaml(path, "a study")
    return path


def shown(folder: Path) -> list[Cell] | list[PackedCell]:
    """Those that can be shown: packed cells, which are of another kind to read, or `finished` ones."""
    return packed_cells(folder) or finished(folder)


def finished(folder: Path) -> list[Cell]:
    """The cells of a folder, or the one whose folder it is. Raises UsageError where there is none, SpikeproofError
    where one is damaged."""
    if (folder / "config.yaml").is_file() and folder.resolve().parent.name == "cells":
        key = folder.resolve().name
        cells = [cell for cell in Store(folder.resolve().parents[1]).cells() if cell.key == key]
    else:
        cells = Store(folder).cells()
    if not cells:
        raise UsageError(f"finished cells under {folder}", "none", mend="run a study into it first")
    return cells
