"""A finished cell is a whole cell: whatever vanishes under a run, wherever it is, the run ends in an error."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tinycell
import unlocked
import warm
from crashes import CELL
from tinycell import numbers

from spikeproof.errors import SpikeproofError
from spikeproof.rows import refuse_twice
from spikeproof.store.store import Cell, Draft, Store
from spikeproof.study import run as made
from spikeproof.study.run import Machine, run_cell
from spikeproof.training import train

QUIET = Machine(progress=False)
BATCHES = 9
"""Of CELL: three splits of clean images, three batches attacked, two of gradients of inputs and one of weights."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Cell]:
    """CELL, undisturbed; not to be changed."""
    root = tmp_path_factory.mktemp("whole")
    return root, run_cell(CELL, Store(root), QUIET)


def remove_parts(draft: Path) -> None:
    for path in draft.glob("*.part"):
        path.unlink()


def remove_stages(draft: Path) -> None:
    for path in [*draft.glob("*.part"), *draft.glob("*.jsonl"), *draft.glob("*.sha256")]:
        path.unlink()


def remove_the_draft(draft: Path) -> None:
    shutil.rmtree(draft)


def remove_the_store(draft: Path) -> None:
    shutil.rmtree(draft.parents[1])


def repeat_a_batch(draft: Path) -> None:
    """As a second writer does."""
    (part,) = draft.glob("*.part")
    with open(part, "ab") as file:
        file.write(part.read_bytes().splitlines(keepends=True)[-1])


def disturbed(monkeypatch: pytest.MonkeyPatch, at: int, spoil: Callable[[Path], None]) -> None:
    """From now on, `spoil` is done to the draft after `at` batches."""
    append, done = Draft.append, 0

    def then(draft: Draft, stage: str, rows: list[Any]) -> None:
        nonlocal done
        append(draft, stage, rows)
        done += 1
        if done == at:
            spoil(draft.folder)

    monkeypatch.setattr(Draft, "append", then)


@pytest.mark.parametrize("at", range(1, BATCHES + 1))
@pytest.mark.parametrize("spoil", [remove_parts, remove_stages, remove_the_draft, remove_the_store, repeat_a_batch])
def test_what_vanishes_at_any_batch_is_an_error_and_the_next_run_is_whole(
    whole: tuple[Path, Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, spoil: Any
) -> None:
    shutil.copytree(whole[0] / "models", tmp_path / "runs" / "models")
    with monkeypatch.context() as patch:
        disturbed(patch, at, spoil)
        with pytest.raises(SpikeproofError, match="start again"):
            run_cell(CELL, Store(tmp_path / "runs"), QUIET)
    assert Store(tmp_path / "runs").folders() == []
    run_cell(CELL, Store(tmp_path / "runs"), QUIET)
    assert numbers(tmp_path / "runs") == numbers(whole[0])


def test_the_cell_has_as_many_batches_as_were_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disturbed(monkeypatch, BATCHES + 1, remove_the_store)
    assert run_cell(CELL, Store(tmp_path), QUIET).damage() is None


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_store_that_vanishes_while_a_network_is_trained_is_an_error(
    whole: tuple[Path, Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    write, epochs = train.write_tensors, 0

    def vanishing(path: Path, *given: Any, **more: Any) -> None:
        nonlocal epochs
        epochs += 1
        if epochs == epoch:
            shutil.rmtree(tmp_path / "runs")
        write(path, *given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(train, "write_tensors", vanishing)
        with pytest.raises(SpikeproofError, match=r"checkpoint\.safetensors.*start again"):
            run_cell(CELL, Store(tmp_path / "runs"), QUIET)
    assert not list(tmp_path.rglob("*.safetensors"))
    run_cell(CELL, Store(tmp_path / "runs"), QUIET)
    assert numbers(tmp_path / "runs") == numbers(whole[0])


def test_a_row_that_comes_twice_is_found_before_the_cell_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = made.gradient_rows
    monkeypatch.setattr(made, "gradient_rows", lambda *given, **more: [*(rows := list(real(*given, **more))), rows[0]])
    with pytest.raises(SpikeproofError, match=r"expected one row of \{'side'.*got two"):
        run_cell(CELL, Store(tmp_path), QUIET)
    assert Store(tmp_path).folders() == []


def test_every_row_of_a_cell_has_a_name_of_its_own(whole: tuple[Path, Cell]) -> None:
    for rows in (whole[1].rows(), whole[1].gradients(), whole[1].history()):
        refuse_twice(rows)
        for row in rows[:: max(1, len(rows) // 10)]:
            with pytest.raises(SpikeproofError, match="got two"):
                refuse_twice([*rows, row])


@pytest.mark.parametrize("kind", ["unseen", "flock"])
def test_two_processes_whose_locks_do_not_lock_finish_a_whole_cell_or_none(tmp_path: Path, kind: str) -> None:
    done = warm.run(unlocked.main, tmp_path, 3, kind, environment=tinycell.process_environment(tmp_path / "trace"))
    assert done.returncode == 0, done.stderr
    assert " of 3 met" in done.stdout
