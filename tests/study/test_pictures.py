"""What is kept of a cell to be looked at: chosen by the rule, true to the network, and of no weight for its numbers."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tinycell import WIDER, tiny
from tinypanel import panelled

from spikeproof import report
from spikeproof.errors import SpikeproofError
from spikeproof.rules.atan import ATan
from spikeproof.store.pictures import pictures_of
from spikeproof.store.store import Cell, Store
from spikeproof.study import executor
from spikeproof.study.config import CellConfig, cell_from
from spikeproof.study.finished import trained
from spikeproof.study.pictures import keep_pictures
from spikeproof.study.run import Machine, load_images, run_cell
from spikeproof.tensors import image_keys

QUIET = Machine(progress=False)
PANEL = {"name": "panel", "protocol": "panel", "tier": "smoke", "eps": ["1/20"], "batch_size": 12}


def config(**changes: Any) -> CellConfig:
    """Trained enough that some images are right, a few of which stand."""
    return cell_from(
        panelled(
            train_images=200, test_images=12, headline={"evaluation": "panel", "eps": "1/20"},
            evaluations=[PANEL], model=WIDER,
            recipe={"epochs": 4, "batch_size": 16, "lr": 0.01, "validation_share": 0.2}, **changes,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Cell:
    """With its pictures, as a study makes it."""
    store = Store(tmp_path_factory.mktemp("pictures"))
    made = executor.attempt(config(), True, store, QUIET)
    assert made.error is None
    assert made.cell is not None
    return made.cell


def tree(cell: Cell) -> Any:
    return json.loads((cell.folder / "pictures.json").read_bytes())


def array(layer: dict[str, Any]) -> NDArray[np.uint8]:
    return np.frombuffer(base64.b64decode(layer["bytes"]), dtype=np.uint8).reshape(layer["shape"])


def test_they_are_the_first_that_fell_and_the_first_that_stood(cell: Cell) -> None:
    rows: list[Any] = [row for row in cell.rows() if row["kind"] == "attack" and row["eps_text"] == "1/20"]
    fooled: dict[int, str] = {}
    for row in rows:
        if row["fooled"] and row["predicted"] == row["label"]:
            fooled.setdefault(row["image"], row["attack"])
    right = {row["image"] for row in rows if row["predicted"] == row["label"]}
    order = [id for id in load_images(config(), "test").ids.tolist() if id in right]
    expected = {
        "fell": next((id for id in order if id in fooled), None),
        "stood": next((id for id in order if id not in fooled), None),
    }
    found = {one["outcome"]: one for one in tree(cell)["pictures"]}
    assert {name: one["image"] for name, one in found.items()} == {k: v for k, v in expected.items() if v is not None}
    assert found, "neither fell nor stood"
    for one in found.values():
        assert (one["attacked"] != one["label"]) == (one["outcome"] == "fell")
    if "fell" in found:
        assert found["fell"]["attack"] == fooled[found["fell"]["image"]]


def test_the_arrays_are_those_of_the_image_within_the_budget(cell: Cell) -> None:
    images = load_images(config(), "test")
    for one in tree(cell)["pictures"]:
        place = images.ids.tolist().index(one["image"])
        x = images.at(torch.tensor([place]))[0][0].numpy()
        assert np.array_equal(array(one["layers"]["clean"]), np.rint(x * 255).astype(np.uint8))
        change = array(one["layers"]["attacked"]).astype(int) - array(one["layers"]["clean"])
        assert 0 < np.abs(change).max() <= 255 / 20 + 1
        assert one["layers"]["change"]["scale"] <= 1 / 20 + 1e-6


def test_the_map_at_the_image_is_the_gradient_of_the_cross_entropy(cell: Cell) -> None:
    victim, images = trained(cell.folder), load_images(config(), "test")
    for one in tree(cell)["pictures"]:
        place = images.ids.tolist().index(one["image"])
        x = images.at(torch.tensor([place]))[0].requires_grad_()
        logits = victim(x, ATan(), image_keys(0, torch.tensor([one["image"]])))
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor([one["label"]]))
        g = torch.autograd.grad(loss, x)[0][0].abs().sum(0).numpy()
        layer = one["layers"]["image"]
        assert layer["scale"] == pytest.approx(g.max(), rel=1e-4)
        assert np.abs(array(layer)[0] / 255 * g.max() - g).max() <= g.max() / 255 + 1e-9
        assert np.array_equal(array(layer)[0] == 0, g == 0)


def test_no_row_and_no_key_knows_of_them(cell: Cell, tmp_path: Path) -> None:
    shutil.copytree(cell.folder.parents[1] / "models", tmp_path / "models")  # the network is trained once
    bare = run_cell(config(), Store(tmp_path), QUIET)
    assert bare.key == cell.key
    assert not (bare.folder / "pictures.json").exists()
    for name in ("rows.jsonl", "gradients.jsonl"):
        assert (bare.folder / name).read_bytes() == (cell.folder / name).read_bytes()
    assert cell.damage() is None
    keep_pictures(bare, config(), QUIET)
    assert (bare.folder / "pictures.json").read_bytes() == (cell.folder / "pictures.json").read_bytes()


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), OSError(28, "No space left"), KeyError("pool")])
def test_a_cell_whose_pictures_fail_is_finished(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    bare = Cell(cell.key, tmp_path / cell.key)
    shutil.copytree(cell.folder, bare.folder)
    (bare.folder / "pictures.json").unlink()

    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("spikeproof.study.pictures._at", fails)
    keep_pictures(bare, config(), QUIET)
    assert not (bare.folder / "pictures.json").exists()
    assert type(error).__name__ in caplog.text


def test_a_cell_whose_headline_is_no_panel_keeps_none(tmp_path: Path) -> None:
    nowhere = Cell("0" * 16, tmp_path)
    keep_pictures(nowhere, cell_from(tiny()), QUIET)
    assert [*tmp_path.iterdir()] == []
    assert pictures_of(tmp_path) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda tree: tree.update(format=2),
        lambda tree: tree["pictures"][0].update(outcome="<script>"),
        lambda tree: tree["pictures"][0].update(label="3"),
        lambda tree: tree["pictures"][0]["layers"].pop("clean"),
        lambda tree: tree["pictures"][0]["layers"].update(more={}),
        lambda tree: tree["pictures"][0]["layers"]["clean"].update(shape=[1, 8, 9]),
        lambda tree: tree["pictures"][0]["layers"]["clean"].update(shape=[1, 1, 100_000]),
        lambda tree: tree["pictures"][0]["layers"]["clean"].update(bytes="!"),
        lambda tree: tree["pictures"][0]["layers"]["clean"].update(scale=float("nan")),
    ],
)
def test_damaged_ones_are_refused_with_their_file(cell: Cell, tmp_path: Path, damage: Any) -> None:
    found = tree(cell)
    damage(found)
    (tmp_path / "pictures.json").write_text(json.dumps(found))
    with pytest.raises(SpikeproofError, match=r"pictures\.json"):
        pictures_of(tmp_path)


@pytest.mark.usefixtures("undrawn")
def test_the_page_shows_them_with_words_for_each(cell: Cell, tmp_path: Path) -> None:
    found = tree(cell)
    page = report.write([cell], tmp_path, title="one").read_text(encoding="utf-8")
    layers = sum(len(one["layers"]) for one in found["pictures"])
    assert page.count('src="data:image/png;base64,') == layers == page.count("<img alt=")
    assert f"Test image {found['pictures'][0]['image']}, of class" in page
    assert "img-src data:" in page
    assert "image-rendering: pixelated" in page
