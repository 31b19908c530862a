"""An entry made by hand, whose numbers are seen at a glance, and one of a real cell with its files."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from small import trained
from tinypanel import panelled

from spikeproof.board.entry import Entry, read, written
from spikeproof.board.make import Told, chosen, entry_of
from spikeproof.files import digest
from spikeproof.metrics.robustness import clopper_pearson
from spikeproof.store.store import Cell, Store
from spikeproof.study.config import cell_from
from spikeproof.study.run import Machine, run_cell
from spikeproof.training.checkpoint import write_tensors

QUIET = Machine(progress=False)


def share(correct: int, total: int = 8) -> dict[str, Any]:
    return clopper_pearson(correct, total)._asdict()


def audit(code: str, colour: str = "green") -> dict[str, Any]:
    return {"code": code, "name": "some", "colour": colour, "breaks": "unsettled", "value": 1.0, "limit": 0.5, "n": 8,
            "says": "fine"}  # fmt: skip


def attack(name: str, newly: int) -> dict[str, Any]:
    return {"attack": name, "group": "first", "attacked": 7, "broken": newly, "newly_broken": newly, "forwards": 70,
            "backwards": 70}  # fmt: skip


def by_hand(name: str = "a network", key: str = "0123456789abcdef") -> dict[str, Any]:
    """Eight images: the last is wrong when clean, two fall to PGD, one to corners, four stand."""
    outcomes = {
        "ids": [10, 11, 12, 13, 14, 15, 16, 17],
        "labels": [0, 1, 2, 3, 4, 5, 6, 7],
        "predicted": [0, 1, 2, 3, 4, 5, 6, 0],
        "fallen": [0, 0, 1, -1, -1, -1, -1, -1],
    }
    result = {"clean": share(7), "worst": share(4), "verdict": "supported"}
    return {
        "schema": "spikeproof-entry-1",
        "identity": {
            "name": name, "key": key, "code": "0" * 16, "spikeproof": "0.2.0", "date": "2026-11-28",
            # Of the text {"fallen":[...],"ids":[...],...}, worked out by the command line's sha256sum.
            "outcomes": "75088f48627db4659262de12445d7fe23c121f9f68569b18393e5708e3a8008e", "by": None, "link": None,
        },
        "network": {
            "architecture": "small_sew_resnet", "neuron": "if", "rule": "atan (alpha 2.0)", "encoder": "direct",
            "random": False, "steps": 3, "defence": "vanilla", "parameters": 1000, "synaptic_operations": None,
        },
        "data": {"name": "digits", "split": "test", "digest": "0" * 16, "images": 8},
        "threat": {
            "evaluation": "panel", "tier": "quick", "surface": "pixels", "norm": "Linf", "eps": 0.1, "eps_text": "0.1",
        },
        "result": result,
        "seeds": [{"seed": 0, "key": key, **copy.deepcopy(result)}],
        "readings": {"gap": share(1), "power": share(8), "slack": {"expected": 0.1, "high": 0.25}},
        "attacks": [attack("pgd-20", 2), attack("corners-20", 1)],
        "audits": [audit("D21"), audit("D22")],
        "cost": {"forwards": 140, "backwards": 140, "evaluate_seconds": 1.5, "train_seconds": None, "machine": "some"},
        "reported": None,
        "files": {"weights": {"file": None, "sha256": "0" * 64, "bytes": None}, "inputs": None},
        "lowered": [],
        "config": {"name": name, "evaluations": [{"name": "panel", "eps": ["0.1"]}]},
        "outcomes": outcomes,
    }  # fmt: skip


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
