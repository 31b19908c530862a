"""A locked cell is not a done cell: a command waits for it, or ends with 75, and loses nothing."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from tinycell import smallest

from spikeproof.commands import main
from spikeproof.errors import Locked
from spikeproof.store.store import Store
from spikeproof.study.config import CellConfig, Study
from spikeproof.study.here import Here
from spikeproof.study.plan import plan
from spikeproof.study.run import Machine
from spikeproof.study.workers import Workers

pytestmark = pytest.mark.usefixtures("undrawn")

QUIET = Machine(progress=False)
STUDY: dict[str, Any] = {
    "title": "two",
    "base": smallest(evaluations=[{"name": "pixels", "eps": [0.1], "attacks": {"f": {"name": "fgsm"}}}]),
    "axes": {"seed": {"one": {"seed": 1}, "two": {"seed": 2}}},
}


def cells() -> list[CellConfig]:
    return Study(**STUDY).cells()


@pytest.fixture(scope="module")
def keys() -> list[str]:
    """Of the cells, and of the first one's network."""
    study = Study(**STUDY)
    called = [one.called for one in plan(study.cells(), QUIET, study.refused)]
    return [*(one.key for one in called), f"model-{called[0].model}"]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, list[str]]:
    """Verb -> its words, up to where it writes."""
    study, cell = tmp_path / "study.yaml", tmp_path / "cell.yaml"
    study.write_text(yaml.safe_dump(STUDY, sort_keys=False), encoding="utf-8")
    cell.write_text(yaml.safe_dump(cells()[0].resolved(), sort_keys=False), encoding="utf-8")
    return {
        "study": ["study", str(study), "--workers", "1"],
        "evaluate": ["evaluate", "--config", str(cell)],
        "train": ["train", "--config", str(cell)],
    }


def run(words: list[str], out: Path, *more: str) -> int:
    return main([*words, "--out", str(out), "--quiet", "--threads", "1", *more])


@pytest.mark.parametrize(("verb", "lock"), [("study", 0), ("study", 2), ("evaluate", 0), ("evaluate", 2), ("train", 2)])
def test_a_command_that_does_not_wait_ends_with_75_and_goes_on_later(
    tmp_path: Path, files: dict[str, list[str]], keys: list[str], capsys: pytest.CaptureFixture[str], verb: str,
    lock: int,
) -> None:  # fmt: skip
    """lock: of the first cell, or of its network."""
    out = tmp_path / "runs"
    with Store(out).lock(keys[lock]):
        assert run(files[verb], out, "--wait", "0") == 75
        said = capsys.readouterr().err
        assert "start again" in said
        assert "Traceback" not in said
        assert (out / "cells" / keys[0]).exists() is False
        assert (out / "cells" / keys[1]).exists() == (verb == "study"), "what nobody is at is done"
    assert run(files[verb], out, "--wait", "0") == 0


def test_a_study_says_which_cell_another_command_is_at(
    tmp_path: Path, files: dict[str, list[str]], keys: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with Store(tmp_path).lock(keys[0]):
        assert run(files["study"], tmp_path, "--wait", "0") == 75
    told = capsys.readouterr()
    assert "two: done in" in told.err
    assert "one: LOCKED by another command" in told.err
    assert "expected all 2 cells, got 1 that another command is at" in told.err
    assert "report: " in told.out


def test_a_failed_cell_weighs_more_than_a_locked_one(
    tmp_path: Path, files: dict[str, list[str]], keys: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / f"{keys[1]}.partial").write_text("in the way", encoding="utf-8")
    with Store(tmp_path).lock(keys[0]):
        assert run(files["study"], tmp_path, "--wait", "0") == 1
    assert "1 of 2 cells failed" in capsys.readouterr().err


def released_after(lock: Any, seconds: float) -> threading.Thread:
    """Another command that has a lock and ends by itself; returned when it has it."""
    has = threading.Event()

    def hold() -> None:
        with lock:
            has.set()
            threading.Event().wait(seconds)

    holder = threading.Thread(target=hold)
    holder.start()
    assert has.wait(10)
    return holder


@pytest.mark.parametrize("more", [[], ["--wait", "60"]])
def test_a_command_waits_and_does_what_the_other_has_not_done(
    tmp_path: Path, files: dict[str, list[str]], keys: list[str], more: list[str]
) -> None:
    holder = released_after(Store(tmp_path).lock(keys[0]), 0.5)
    assert run(files["evaluate"], tmp_path, *more) == 0
    holder.join()
    assert [cell.key for cell in Store(tmp_path).cells()] == [keys[0]]


@pytest.mark.parametrize("engine", [Here(), Workers(2)])
def test_an_engine_tells_a_locked_cell_from_a_done_and_from_a_failed_one(
    tmp_path: Path, keys: list[str], engine: Any
) -> None:
    with Store(tmp_path).lock(keys[0]):
        outcomes = {one.config.seed: one for one in engine.run(cells(), Store(tmp_path, patience=0.0), QUIET)}
    assert (outcomes[1].cell, outcomes[1].error) == (None, None)
    assert outcomes[2].cell is not None


class Lost:
    """A lock that another run takes after some checks."""

    def __init__(self, checks: int) -> None:
        self.left = checks

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Locked("the lease", "another run's")


def test_an_engine_takes_a_cell_up_again_whose_lock_it_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not count as done, nor as failed; here the other run does not do it."""
    made, locks = Store.draft, iter([Lost(3)])
    monkeypatch.setattr(Store, "draft", lambda store, key, lock: made(store, key, next(locks, lock)))
    (outcome,) = Here().run(cells()[:1], Store(tmp_path), QUIET)
    assert outcome.cell is not None
    assert outcome.cell.damage() is None
    assert next(locks, None) is None


@pytest.mark.parametrize("wait", ["-1", "nan", "soon"])
def test_a_patience_that_is_none_is_refused(tmp_path: Path, files: dict[str, list[str]], wait: str) -> None:
    for words in files.values():
        assert run(words, tmp_path, "--wait", wait) == 2


def test_the_help_of_every_verb_that_locks_tells_of_75(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("train", "evaluate", "study", "demo", "controls", "reproduce"):
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        assert "exit code 75" in " ".join(capsys.readouterr().out.split())
