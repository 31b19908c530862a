"""From a cell to an entry: the numbers of the cell, the worst of its seeds, and what makes no entry."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from spikeproof.board.entry import read, written
from spikeproof.board.make import At, Told, chosen, entry_of, file_name
from spikeproof.errors import UsageError
from spikeproof.store.packed import PackedCell, pack
from spikeproof.store.store import Cell


@dataclass
class Changed:
    """What an entry reads of a cell, to be changed."""

    key: str
    folder: Path
    config: dict[str, Any]
    summary: Any
    provenance: Any
    changed: list[Any]

    def rows(self) -> list[Any]:
        return self.changed


def like(cell: Cell, key: str, **config: Any) -> Any:
    whole = {**cell.config, **config}
    return Changed(key, cell.folder, whole, copy.deepcopy(cell.summary), dict(cell.provenance), list(cell.rows()))


def test_an_entry_says_what_its_cell_says(cell: Cell, tmp_path: Path) -> None:
    at = chosen(cell)
    tree = entry_of([cell], at, Told())
    (evaluation,), (panel,) = cell.summary["results"]["evaluations"], cell.summary["results"]["panels"]
    assert at == ("panel", "1/20")
    assert tree["result"]["clean"] == evaluation["clean"]
    assert tree["result"]["worst"] == evaluation["worst"]["robust"]
    assert tree["result"]["verdict"] == panel["verdict"]
    assert [attack["newly_broken"] for attack in tree["attacks"]] == [one["newly_broken"] for one in panel["stages"]]
    assert tree["files"]["weights"]["bytes"] == (cell.folder / "model.safetensors").stat().st_size
    (packed,) = pack([cell], tmp_path)
    again = entry_of([PackedCell(packed)], at, Told())
    again["files"]["weights"]["bytes"] = tree["files"]["weights"]["bytes"]
    assert again == tree


def test_of_several_seeds_it_is_about_the_worst(cell: Cell, tmp_path: Path) -> None:
    at, worse = chosen(cell), like(cell, "1" * 16, name="tiny-s1", seed=1)
    last = [row for row in worse.changed if row["kind"] == "attack"][-1]["attack"]
    standing = [row for row in worse.changed if row.get("attack") == last and not row["fooled"]]
    standing[0]["fooled"] = True
    worse.summary["results"]["panels"][0]["stages"][-1]["newly_broken"] += 1
    tree = entry_of([cell, worse], at, Told())
    assert tree["identity"]["key"] == worse.key
    assert [one["key"] for one in tree["seeds"]] == [cell.key, worse.key]
    assert tree["seeds"][0]["worst"]["correct"] == tree["result"]["worst"]["correct"] + 1
    written(tmp_path / "one.json", tree)
    assert read(tmp_path / "one.json").tree == tree


def test_other_networks_are_no_seeds_of_it(cell: Cell) -> None:
    at = chosen(cell)
    with pytest.raises(UsageError, match="another steps in 1"):
        entry_of([cell, like(cell, "1" * 16, seed=1, steps=7)], at, Told())
    with pytest.raises(UsageError, match="different seeds"):
        entry_of([cell, like(cell, "1" * 16)], at, Told())
    other = like(cell, "1" * 16, seed=1)
    other.provenance["data"] = {"train": "0", "test": "0"}
    with pytest.raises(UsageError, match="content of its data"):
        entry_of([cell, other], at, Told())


def test_a_network_that_was_not_attacked_has_no_number(cell: Cell, tmp_path: Path) -> None:
    """As where an audit before the attacks is red."""
    unfit = like(cell, "1" * 16)
    unfit.changed = [row for row in unfit.changed if row["kind"] != "attack"]
    panel = unfit.summary["results"]["panels"][0]
    panel |= {"verdict": "not evaluated", "stages": [], "attacked": False, "gap": None, "power": None, "slack": None}
    panel["audits"] = [{**panel["audits"][0], "colour": "red", "breaks": "not evaluated"}]
    unfit.summary["results"]["evaluations"] = []
    entry = written(tmp_path / "one.json", entry_of([unfit], At("panel", "1/20"), Told()))
    assert (entry.worst, entry.verdict, entry.total) == (None, "not evaluated", 40)
    assert entry["threat"]["norm"] is None


def test_one_panel_is_asked_for(cell: Cell) -> None:
    for asked in (("other", None), (None, "0.1"), ("panel", "0.05")):
        with pytest.raises(UsageError, match="panel at 1/20"):
            chosen(cell, *asked)
    two = like(cell, "1" * 16)
    two.summary["results"]["panels"].append({**two.summary["results"]["panels"][0], "eps_text": "0.1", "eps": 0.1})
    two.config["headline"] = None
    with pytest.raises(UsageError, match="2 that are asked for"):
        chosen(two)
    assert chosen(two, eps="0.1") == ("panel", "0.1")
    two.config["headline"] = {"evaluation": "panel", "eps": "1/10"}
    assert chosen(two) == ("panel", "0.1")


def test_a_cell_of_a_version_without_readings_is_refused(cell: Cell) -> None:
    old = like(cell, "1" * 16)
    del old.summary["results"]["panels"][0]["slack"]
    with pytest.raises(UsageError, match="gap, power and slack"):
        entry_of([old], chosen(cell), Told())


def test_a_file_is_named_by_cell_and_threat() -> None:
    assert file_name("0" * 16, At("my panel/../x", "8/255")) == f"{'0' * 16}-my_panel_.._x-8_255"
