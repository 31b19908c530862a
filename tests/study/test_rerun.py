"""Run again and compare; and how far a study is."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
import yaml
from tinycell import smallest

from spikeproof.commands import main
from spikeproof.store.at_work import JOB
from spikeproof.store.store import Cell, Store
from spikeproof.study import plan
from spikeproof.study import rerun as reproduction
from spikeproof.study.config import cell_from
from spikeproof.study.run import Machine, run_cell


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two cells of which one is finished; not to be changed."""
    folder = tmp_path_factory.mktemp("reproduced")
    base = smallest(evaluations=[{"name": "pixels", "eps": [0.1], "attacks": {"f": {"name": "fgsm"}}, "batch_size": 5}])
    study = {"title": "t", "base": base, "axes": {"pool": {"max": {}, "avg": {"model.pool": "avg"}}}}
    (folder / "mine.yaml").write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    run_cell(cell_from({**base, "name": "max"}), Store(folder / "runs"), Machine(progress=False))
    return folder


def copied(root: Path, tmp_path: Path) -> Cell:
    shutil.copytree(root / "runs", tmp_path / "runs")
    return Store(tmp_path / "runs").cells()[0]


def test_the_same_version_gives_the_same_rows(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = copied(root, tmp_path)
    given = ["reproduce", cell.key[:6], "--out", str(tmp_path / "runs"), "--into", str(tmp_path / "again"), "--quiet"]
    assert main(given) == 0
    assert "equal, row for row" in capsys.readouterr().out
    assert Store(tmp_path / "again").cells()[0].rows() == cell.rows()
    assert main(given) == 2, "a folder that has the cell already would be compared with itself"
    assert "a folder without this cell" in capsys.readouterr().err


def test_rows_that_differ_are_shown_with_their_fields(root: Path, tmp_path: Path) -> None:
    cell = copied(root, tmp_path)
    path = cell.folder / "rows.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[3] = lines[3].replace('"predicted":', '"predicted":1')
    path.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    whole = Cell(cell.key, root / "runs" / "cells" / cell.key)
    found = reproduction.differences(whole, cell)
    assert len(found) == 2
    assert found[0].startswith("rows.jsonl:4: {'image': ")
    assert "predicted" in found[0]
    assert found[1] == f"rows.jsonl:{len(lines)}: no such row any more"
    assert reproduction.differences(whole, whole) == []


def test_another_version_is_refused_and_both_are_named(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = copied(root, tmp_path)
    monkeypatch.setattr(reproduction, "code_of", lambda _: "f00d")
    assert main(["reproduce", cell.key, "--out", str(tmp_path / "runs"), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "f00d" in said
    assert cell.provenance["code"] in said
    assert "--anyway" in said
    assert not (tmp_path / "runs" / "reproduced").exists()


def test_a_damaged_or_unknown_cell_is_refused(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = copied(root, tmp_path)
    assert main(["reproduce", "nokey", "--out", str(tmp_path / "runs")]) == 2
    assert f"valid: {cell.key} (max)" in capsys.readouterr().err
    (cell.folder / "history.jsonl").unlink()
    assert main(["reproduce", cell.key, "--out", str(tmp_path / "runs")]) == 2
    assert "a whole cell" in capsys.readouterr().err


def test_a_study_in_a_folder_of_another_version_is_refused_before_any_work(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = copied(root, tmp_path)
    monkeypatch.setattr(plan, "code_of", lambda _: "f00d")
    monkeypatch.setattr(plan, "key_of_cell", lambda *_: "0" * 16)
    given = ["study", str(root / "mine.yaml"), "--out", str(tmp_path / "runs"), "--workers", "1", "--quiet"]
    assert main(given) == 2
    said = capsys.readouterr().err
    assert "code f00d" in said
    assert cell.provenance["code"] in said
    assert [path.name for path in (tmp_path / "runs" / "cells").iterdir()] == [cell.key]


def test_status_tells_every_state_and_changes_nothing(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = copied(root, tmp_path)
    store, given = Store(tmp_path / "runs"), ["status", str(root / "mine.yaml"), "--out", str(tmp_path / "runs")]

    def said() -> list[list[str]]:
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "cells").rglob("*")}
        assert main(given) == 0
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "cells").rglob("*")} == before
        return [line.split(maxsplit=3) for line in capsys.readouterr().out.splitlines()]

    first, second, total = said()
    assert first == ["max", cell.key, "finished"]
    assert (second[0], second[2]) == ("avg", "missing")
    assert " ".join(total) == "2 cells: 1 finished, 0 running, 0 partial, 1 missing, 0 damaged"
    monkeypatch.delenv(JOB, raising=False)
    draft = store.draft(second[1])
    draft.write_stage("clean", [{"a": 1}])
    draft.append("attack-pixels", [{"a": 1}])
    draft.append("attack-pixels", [{"a": 2}])
    assert said()[1][2:] == ["partial", "attack-pixels, 2 batches"]
    with store.lock(second[1]):
        state, told = said()[1][2:]
        assert state == "running"
        assert re.match(rf"attack-pixels, 2 batches; process on \S+ \({os.getpid()}\) since \d{{4}}-", told)
    (cell.folder / "rows.jsonl").write_text("", encoding="utf-8")
    assert said()[0][2:] == ["damaged", "rows.jsonl has changed since it was written"]
