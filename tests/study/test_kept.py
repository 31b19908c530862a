"""A plan that is kept is read without torch, and never where anything it was worked out from has changed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tinycell import tiny

from spikeproof.store.store import Store
from spikeproof.study.config import load_study
from spikeproof.study.kept import Called, keep, kept
from spikeproof.study.plan import plan
from spikeproof.study.trained import Machine

CELLS = [Called("a", "0123", "4567", 3), Called("b", "89ab", None, 2)]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """With an axis that names the folder `images`."""
    path = tmp_path / "mine.yaml"
    axes = {"data": {"mine": {}, "other": {"data.root": str(tmp_path / "images")}}}
    path.write_text(yaml.safe_dump({"title": "two", "base": tiny(), "axes": axes}), encoding="utf-8")
    return path


def test_what_a_study_keeps_is_its_plan(study: Path, tmp_path: Path) -> None:
    study.write_text(yaml.safe_dump({"title": "two", "base": tiny(), "seeds": [0, 1]}), encoding="utf-8")
    read, store = load_study(study), Store(tmp_path / "runs")
    planned = plan(read.cells(), Machine(), read.refused)
    keep(store, study, "cpu", [one.called for one in planned], [one.config.resolved() for one in planned])
    found = kept(store, study, "cpu")
    assert found is not None
    assert [(one.name, one.key, one.model, one.epochs) for one in found] == [
        (one.config.name, one.key, one.model, one.config.recipe.epochs) for one in planned
    ]


def test_status_of_a_kept_plan_asks_for_no_torch(study: Path, tmp_path: Path) -> None:
    keep(Store(tmp_path / "runs"), study, "cpu", CELLS, [])
    code = (
        "import sys; from spikeproof.commands import main; "
        f"main(['status', {str(study)!r}, '--out', {str(tmp_path / 'runs')!r}]); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    *_, total, torch = done.stdout.splitlines()
    assert total == "2 cells: 0 finished, 0 running, 0 partial, 2 missing, 0 damaged"
    assert torch == "False"


def _another_study(study: Path, _: Path, __: pytest.MonkeyPatch) -> None:
    study.write_text(study.read_text(encoding="utf-8") + "\n# a word\n", encoding="utf-8")


def _another_image(_: Path, data: Path, __: pytest.MonkeyPatch) -> None:
    (data / "train" / "cat" / "1.png").write_bytes(b"another")


def _one_image_more(_: Path, data: Path, __: pytest.MonkeyPatch) -> None:
    (data / "train" / "cat" / "2.png").write_bytes(b"more")


def _data_gone(_: Path, data: Path, __: pytest.MonkeyPatch) -> None:
    data.rename(data.with_name("elsewhere"))


def _slow_paths(_: Path, __: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKEPROOF_FAST", "0")


def _no_compiler(_: Path, __: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/other/{name}")


def _another_torch(_: Path, __: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spikeproof.study.kept.version", lambda name: "0.0")


@pytest.mark.parametrize(
    "change",
    [_another_study, _another_image, _one_image_more, _data_gone, _slow_paths, _no_compiler, _another_torch],
)
def test_a_plan_is_not_kept_beyond_a_change(
    change: Callable[[Path, Path, pytest.MonkeyPatch], None], study: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    data, store = tmp_path / "images", Store(tmp_path / "runs")
    (data / "train" / "cat").mkdir(parents=True)
    (data / "train" / "cat" / "1.png").write_bytes(b"one")
    keep(store, study, "cpu", CELLS, [{"data": {"name": "image_folder", "root": str(data)}}])
    assert kept(store, study, "cpu") == CELLS
    assert kept(store, study, "cuda") is None
    change(study, data, monkeypatch)
    assert kept(store, study, "cpu") is None


def test_a_plan_with_parts_of_ones_own_is_not_kept(study: Path, tmp_path: Path) -> None:
    """Their sources are not the package's, and may stand on anything."""
    keep(Store(tmp_path), study, "cpu", CELLS, [{"evaluations": [{"attacks": {"a": {"name": "mine.attack:Best"}}}]}])
    assert kept(Store(tmp_path), study, "cpu") is None


def test_a_folder_that_the_study_does_not_name_is_never_walked(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, elsewhere = Store(tmp_path / "runs"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    keep(store, study, "cpu", CELLS, [{"data": {"root": str(elsewhere)}}])  # as of a default of a part
    assert kept(store, study, "cpu") is None
    keep(store, study, "cpu", CELLS, [])
    facts = json.loads((store.root / "plan.json").read_text(encoding="utf-8"))
    walked: list[str] = []
    monkeypatch.setattr("spikeproof.study.kept._stamps", lambda paths: walked.extend(paths) or [])
    for outside in (["/"], [str(elsewhere)], [3], "abc", None):
        (store.root / "plan.json").write_text(json.dumps({**facts, "outside": outside}), encoding="utf-8")
        assert kept(store, study, "cpu") is None
    assert not walked


@pytest.mark.parametrize(
    "cell",
    [
        ["\x1b[2J", "0123", "4567", 3], ["", "0123", "4567", 3], [3, "0123", "4567", 3], ["a", "../..", "4567", 3],
        ["a", "0123", "/etc", 3], ["a", "0123", "4567", "3"], ["a", "0123", "4567"], ["a", "0123", 4567, 3], "abcd", 3,
    ],
    ids=repr,
)  # fmt: skip
def test_cells_that_no_study_has_are_not_told_of(study: Path, tmp_path: Path, cell: Any) -> None:
    keep(Store(tmp_path), study, "cpu", CELLS, [])
    facts = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))
    (tmp_path / "plan.json").write_text(json.dumps({**facts, "cells": [cell]}), encoding="utf-8")
    assert kept(Store(tmp_path), study, "cpu") is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "[" * 9999, "3", "null", json.dumps({"seal": 1, "outside": [], "cells": [["a"]]})]
)
def test_a_file_that_is_none_is_as_if_it_were_not_there(text: Any, study: Path, tmp_path: Path) -> None:
    assert kept(Store(tmp_path), study, "cpu") is None
    (tmp_path / "plan.json").write_text(text, encoding="utf-8")
    assert kept(Store(tmp_path), study, "cpu") is None


@pytest.mark.parametrize("text", ["x" * 4000, "~nobody-of-this-name/x", "a\0b", ""])
def test_a_text_that_can_be_no_path_is_none(text: str, study: Path, tmp_path: Path) -> None:
    keep(Store(tmp_path), study, "cpu", CELLS, [{"data": {"root": text}}])
    assert kept(Store(tmp_path), study, "cpu") == CELLS
