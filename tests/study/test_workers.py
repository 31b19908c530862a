"""Workers: the same bytes as one process, and no cell is lost to what happens to another."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import kills
import pytest
import tinycell
import warm
import yaml
from tinycell import numbers, tiny

from spikeproof.commands import main
from spikeproof.store.store import Store
from spikeproof.study.config import load_study
from spikeproof.study.here import Here
from spikeproof.study.run import Machine
from spikeproof.study.workers import devices

QUIET = Machine(progress=False)


def study_file(folder: Path, axes: dict[str, Any], **changes: Any) -> Path:
    attacked = [{"name": "pixels", "eps": [0.1], "attacks": {"f": {"name": "fgsm"}}}]
    base = tiny(evaluations=attacked, model=tinycell.SMALLEST, **changes)
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"title": "mine", "base": base, "axes": axes}, sort_keys=False), encoding="utf-8")
    return path


def test_workers_keep_what_goes_right_and_say_what_went_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = {
        "fine": {}, "raises": {"defence.name": "trouble:Raises"}, "dies": {"defence.name": "trouble:Dies"},
        "fine too": {"seed": 5},
    }  # fmt: skip
    path = study_file(tmp_path, {"training": training})
    words = ("study", path, "--workers", 2, "--out", tmp_path / "runs", "--quiet", "--threads", 1)
    assert main([*map(str, words)]) == 1
    out, err = capsys.readouterr()
    assert "report: " in out
    assert "2 of 4 cells failed" in err
    assert "  raises: RuntimeError: nothing of spikeproof's own" in err
    assert re.search("^  dies: its process died: killed by SIGKILL", err, re.MULTILINE)
    assert len(re.findall(r"^\[\d/4\] [\w ]+: (?:done|FAILED) in \d+ s", err, re.MULTILINE)) == 4
    cells = [cell for cell in load_study(path).cells() if cell.name.startswith("fine")]
    assert [outcome.error for outcome in Here().run(cells, Store(tmp_path / "here"), QUIET)] == [None, None]
    assert numbers(tmp_path / "runs") == numbers(tmp_path / "here")
    assert len(numbers(tmp_path / "here")) == 2 * len(tinycell.NUMBERS)


def test_one_process_too_goes_on_after_a_cell_that_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = study_file(tmp_path, {"training": {"raises": {"defence.name": "trouble:Raises"}, "fine": {}}})
    first, second = Here().run(load_study(path).cells(), Store(tmp_path), QUIET)
    assert (first.cell, first.error) == (None, "RuntimeError: nothing of spikeproof's own")
    assert second.error is None
    assert second.cell is not None
    assert second.cell.damage() is None
    assert "Traceback" in capsys.readouterr().err


def test_a_cell_that_another_process_is_at_comes_last(tmp_path: Path) -> None:
    """And is not done twice: here the other process ends without having done it."""
    path = study_file(tmp_path, {"pool": {"max": {}, "avg": {"model.pool": "avg"}}})
    cells = load_study(path).cells()
    keys = [outcome.cell.key for outcome in Here().run(cells, Store(tmp_path / "other"), QUIET) if outcome.cell]
    store = Store(tmp_path / "runs")
    running = Here().run(cells, store, QUIET)
    with store.lock(keys[0]):
        assert next(running).config.name == "avg"
        assert store.locked(keys[0])
    assert not store.locked(keys[0])
    assert [outcome.config.name for outcome in running] == ["max"]


@pytest.mark.parametrize(
    ("device", "gpus", "each"),
    [
        ("cuda", 2, ["cuda:0", "cuda:1", "cuda:0"]), ("cuda", 1, ["cuda"] * 3), ("cuda:1", 2, ["cuda:1"] * 3),
        ("cpu", 2, ["cpu"] * 3),
    ],
)  # fmt: skip
def test_several_gpus_are_taken_in_turn(
    monkeypatch: pytest.MonkeyPatch, device: str, gpus: int, each: list[str]
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    assert devices(device, 3) == each


def alive(number: int) -> bool:
    """Whether a process is there and not merely waiting for its parent to hear of its end."""
    try:
        return Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def within(seconds: float, true: Any) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(true())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")
@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_command(tmp_path: Path, blow: signal.Signals) -> None:
    path = study_file(tmp_path, {"pool": {"max": {}, "avg": {"model.pool": "avg"}}}, defence={"name": "trouble:Waits"})
    process = subprocess.Popen(
        tinycell.command("study", path, "--workers", 2, "--out", tmp_path / "runs"),
        env=tinycell.process_environment(tmp_path / "trace"), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert within(240, lambda: len(list(tmp_path.glob("pid-*"))) == 2), "two workers are at work"
        workers = [int(found.name.removeprefix("pid-")) for found in tmp_path.glob("pid-*")]
        assert all(map(alive, workers))
        process.send_signal(blow)
        said = process.communicate(timeout=120)[1]
    finally:
        process.kill()
    assert within(60, lambda: not any(map(alive, workers)))
    if blow == signal.SIGINT:
        assert process.returncode == 1
        assert said.strip().splitlines()[-1] == "spikeproof: stopped; the same command goes on from here"
    else:
        assert process.returncode == -signal.SIGKILL


def test_a_study_killed_ten_times_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    done = warm.run(kills.main, tmp_path, environment=tinycell.process_environment(tmp_path / "trace"))
    assert done.returncode == 0, done.stderr
    assert "killed 10 times" in done.stdout
