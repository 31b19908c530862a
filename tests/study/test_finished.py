"""The network of a finished cell: the one that the cell examined, and refusals of what is no finished cell."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tinycell import smallest, tiny

import spikeproof
from spikeproof.data.digits import Digits
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.store.store import Cell, Store
from spikeproof.study.config import cell_from
from spikeproof.study.finished import trained
from spikeproof.study.run import Machine, run_cell
from spikeproof.tensors import exact, image_keys
from spikeproof.training.checkpoint import read_tensors, write_tensors

QUIET = Machine(progress=False)
CHEAP = {"evaluations": [{"name": "pixels", "eps": [0.1], "attacks": {"fgsm": {"name": "fgsm"}}, "images": 2}]}


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Cell:
    """A tiny cell; not to be changed."""
    return run_cell(cell_from(smallest(**CHEAP, seed=3)), Store(tmp_path_factory.mktemp("runs")), QUIET)


def held_against_its_rows(cell: Cell) -> None:
    """Margins and answers on the test images are those that the cell has written."""
    victim = trained(cell.folder)
    assert not any(module.training for module in victim.modules())
    rows = {row["image"]: row for row in cell.rows() if row["kind"] == "clean" and row["split"] == "test"}
    x, y, ids = Digits().load("test", 10).at(torch.arange(10))
    assert [int(i) for i in ids] == list(rows)
    with torch.no_grad():
        logits = victim(x, exact, image_keys(3, ids))
    others = logits.scatter(1, y[:, None], float("-inf")).amax(1)
    margins = logits.gather(1, y[:, None])[:, 0] - others
    torch.testing.assert_close(margins, torch.tensor([row["margin"] for row in rows.values()]), atol=1e-4, rtol=1e-4)
    assert margins.unique().numel() > 3, "a network that says the same of all would not be told from another"


def test_it_is_the_network_that_the_cell_examined(cell: Cell) -> None:
    held_against_its_rows(cell)
    expected, _ = read_tensors(cell.folder / "model.safetensors")
    found = trained(str(cell.folder)).body.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert spikeproof.trained is trained


def test_weights_that_do_not_say_their_channels_get_them_from_the_data(cell: Cell, tmp_path: Path) -> None:
    tensors, _ = read_tensors(cell.folder / "model.safetensors")
    bare = tmp_path / "bare.safetensors"
    write_tensors(bare, tensors, {})
    given = run_cell(cell_from(smallest(**CHEAP, seed=3, weights=str(bare))), Store(tmp_path), QUIET)
    bare.unlink()
    held_against_its_rows(given)


# --- what is no finished cell ---


def copied(cell: Cell, path: Path) -> Path:
    shutil.copytree(cell.folder, path)
    return path


def test_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no folder at .*nowhere"):
        trained(tmp_path / "nowhere")


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no config\.yaml"):
        trained(tmp_path)


def test_a_cell_in_the_making_is_refused(cell: Cell, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"being made.*run its study again"):
        trained(copied(cell, tmp_path / f"{cell.key}.partial"))


@pytest.mark.parametrize("inside", ["", "cells"])
def test_a_folder_of_cells_is_refused_and_names_them(cell: Cell, inside: str) -> None:
    with pytest.raises(UsageError, match="holds cells") as refused:
        trained(cell.folder.parent.parent / inside)
    assert refused.value.valid == (str(cell.folder),)


@pytest.mark.parametrize("name", ["model.safetensors", "config.yaml", "rows.jsonl"])
def test_a_damaged_cell_is_refused(cell: Cell, tmp_path: Path, name: str) -> None:
    file = copied(cell, tmp_path / cell.key) / name
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(SpikeproofError, match=f"whole cell at .*{name} has changed"):
        trained(file.parent)


def test_of_frames_the_channels_are_not_the_frames(tmp_path: Path) -> None:
    """Recordings are (T,C,H,W): the network has the two polarities as channels, whatever T."""
    panel = {"name": "panel", "protocol": "panel", "tier": "smoke", "norm": "flips", "surface": "events", "eps": ["1"]}
    few = tiny(
        data={"name": "digits_events", "frames": 3}, encoder={"name": "frames"}, steps=3, train_images=40,
        recipe={"epochs": 1, "batch_size": 8, "lr": 0.01, "validation_share": 0.5},
        evaluations=[{**panel, "images": 4}], gradients={"images": 1, "weight_images": 0, "layers": False},
    )  # fmt: skip
    events = run_cell(cell_from(few), Store(tmp_path), QUIET)
    assert trained(events.folder).in_channels == 2
