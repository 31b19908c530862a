"""An entry made by hand, and one of a real cell with its files."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from entries import by_hand
from small import trained
from tinypanel import panelled

from spikeproof.board.entry import Entry, read, written
from spikeproof.board.make import Told, chosen, entry_of
from spikeproof.files import digest
from spikeproof.store.store import Cell, Store
from spikeproof.study.config import cell_from
from spikeproof.study.run import Machine, run_cell
from spikeproof.training.checkpoint import write_tensors

QUIET = Machine(progress=False)


@pytest.fixture
def tree() -> dict[str, Any]:
    return by_hand()


@pytest.fixture(scope="session")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Cell:
    """A panel of the smoke tier on 40 digits, of weights that every processor has; not to be changed."""
    folder = tmp_path_factory.mktemp("cell")
    facts = {"input_shape": [1, 8, 8], "classes": [str(digit) for digit in range(10)]}
    write_tensors(weights := folder / "given.safetensors", trained().body.state_dict(), facts)
    panel = {"name": "panel", "protocol": "panel", "tier": "smoke", "eps": ["1/20"], "batch_size": 16}
    config = panelled(test_images=40, steps=3, weights=str(weights), evaluations=[panel], name="tiny")
    return run_cell(cell_from(config), Store(folder / "runs"), QUIET)


@pytest.fixture(scope="session")
def _made(cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> Entry:
    tree = entry_of([cell], chosen(cell), Told())
    weights = cell.folder / "model.safetensors"
    path = tmp_path_factory.mktemp("board") / "tiny.json"
    (path.parent / "tiny.weights.safetensors").write_bytes(weights.read_bytes())
    tree["files"]["weights"] |= {"file": "tiny.weights.safetensors", "sha256": digest(weights)}
    return written(path, tree)


@pytest.fixture
def entry(_made: Entry, tmp_path: Path) -> Entry:
    """That of the cell, with its weights beside it, in a folder of the test's own."""
    (tmp_path / "tiny.weights.safetensors").write_bytes((_made.path.parent / "tiny.weights.safetensors").read_bytes())
    written(tmp_path / "tiny.json", copy.deepcopy(dict(_made.tree)))
    return read(tmp_path / "tiny.json")
