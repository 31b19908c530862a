"""A study on a real SLURM of two nodes, one of which is lost: the rows are those of an undisturbed local run."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from slurm import NODES, Slurm, missing
from tinycell import command, numbers
from undisturbed import CELLS, KILLS, ask, environment, expected, finished, study_file, until


@pytest.fixture(scope="module")
def two() -> Iterator[Slurm]:
    assert missing() is None, missing()
    folder = Path(mkdtemp(prefix="slurm-"))  # short: a socket's path has 107 characters at most
    with Slurm(folder / "two") as running:
        yield running
    shutil.rmtree(folder)


@pytest.fixture
def slurm(two: Slurm) -> Slurm:
    """No job, and both nodes idle, whatever the test before has killed."""
    two.clear()
    return two


def words(folder: Path) -> list[str]:
    study = ["study", str(study_file(folder)), "--engine", "slurm", "--jobs", "3", "--threads", "1"]
    return [*study, "--out", str(folder / "runs")]


def surroundings(slurm: Slurm, folder: Path, gate: Path | None = None) -> dict[str, str]:
    return {**environment(folder, gate), "SLURM_CONF": slurm.environment["SLURM_CONF"]}


def submitted(slurm: Slurm, folder: Path, *more: str, gate: Path | None = None) -> str:
    """The number of the job array of the twelve cells' study, in folder/runs."""
    done = ask([*words(folder), *more], surroundings(slurm, folder, gate))
    assert done.returncode == 0, done.stderr
    found = re.search(r"SLURM has job (\d+): 3 workers", done.stderr)
    assert found is not None, done.stderr
    return found[1]


def workers_of(job: str, node: str) -> list[int]:
    """The processes that a node has started for a job array, found by their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            said = (path / "environ").read_bytes().split(b"\0")
            if f"SLURMD_NODENAME={node}".encode() in said and f"SLURM_ARRAY_JOB_ID={job}".encode() in said:
                found.append(int(path.name))
    return found


def kill(numbers: list[int]) -> int:
    for number in numbers:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    return len(numbers)


def at_gate(gate: Path) -> dict[str, Any]:
    """The process that waits there: its pid and its node."""
    until(lambda: (gate / "held").exists() and (gate / "held").read_text(encoding="utf-8"), 240, "process at the gate")
    held: dict[str, Any] = json.loads((gate / "held").read_text(encoding="utf-8"))
    return held


def restarts(slurm: Slurm, job: str) -> int:
    """How often some task of a job array was started again."""
    return max(map(int, re.findall(r"Restarts=(\d+)", slurm.ask("scontrol", "show", "job", job))), default=0)


def logs(root: Path) -> str:
    return "".join(path.read_text(encoding="utf-8") for path in sorted(root.glob("slurm/*.log")))


def test_a_node_that_is_lost_with_its_processes_loses_nothing(slurm: Slurm, tmp_path: Path) -> None:
    """Nor does a killed controller; and a worker that is warned of its limit, by the signal that SLURM sends then, is
    started again and goes on."""
    root, gate = tmp_path / "runs", tmp_path / "gate"
    gate.mkdir()
    job = submitted(slurm, tmp_path, gate=gate)
    held = at_gate(gate)  # so that the study is not at its end before it is disturbed
    other = next(node for node in NODES if node != held["node"])
    until(lambda: workers_of(job, other), 240, "worker on the other node")
    slurm.kill_node(other)
    assert kill(workers_of(job, other))
    slurm.restart_controller()
    task = f"{job}_{held['task']}"
    warn_until(lambda: "stopped by SIGUSR1; what is written is kept" in logs(root), slurm, task, gate)
    until(lambda: finished(root) == 12, 240, "twelve finished cells")
    assert numbers(root) == expected()


def warn_until(true: Callable[[], object], slurm: Slurm, task: str, gate: Path) -> None:
    """The signal that comes before a limit, again where a controller that has just started did not pass it on; the gate
    opens once it was sent."""
    end = time.monotonic() + 180
    while not true():
        assert time.monotonic() < end, f"no end at a batch in 180 s; {slurm.jobs()}, {slurm.states()}"
        slurm.ask("scancel", "--signal=USR1", "--batch", task, seconds=15)
        time.sleep(1.0)
        (gate / "open").touch()


def test_a_lost_process_that_lives_on_finishes_its_cell_and_no_copy_takes_it_for_done(
    slurm: Slurm, tmp_path: Path
) -> None:
    root, gate = tmp_path / "runs", tmp_path / "gate"
    gate.mkdir()
    job = submitted(slurm, tmp_path, gate=gate)
    held = at_gate(gate)
    told = ask(["status", "--out", str(root)], environment(tmp_path)).stdout
    assert re.search(rf"running .*; slurm {job}_\d on [\w.-]+ \({held['pid']}\) since ", told), told
    slurm.kill_node(held["node"])
    until(lambda: finished(root) == 11, 240, "eleven finished cells")
    # Once SLURM starts the job again; then the job itself asks for it, having found the lock of the cell.
    until(lambda: restarts(slurm, job) >= 2, 120, "job that is queued again twice")
    os.kill(held["pid"], 0)  # it is alive
    assert finished(root) == 11
    (gate / "open").touch()
    until(lambda: finished(root) == 12, 60, "twelve finished cells")
    until(lambda: not slurm.jobs(), 90, "end of all jobs")
    copies = [text for path in root.glob("slurm/*.log") if (text := path.read_text("utf-8")).count("done here") > 1]
    assert copies, "each start of a job goes on in the log of the one before"
    for copy in copies:
        assert "1 that other workers are at" in copy
        assert copy.rstrip().endswith("0 cells done here, of 12 planned")
    assert numbers(root) == expected()


def test_whatever_is_killed_again_and_again_the_rows_are_those_of_one_run(slurm: Slurm, tmp_path: Path) -> None:
    """The controller, a node's daemon with what it runs or without, a worker alone, and the command that submits; study
    after study, until there were kills enough."""
    killed, chance = Counter[str](), random.Random(11)
    for study in range(KILLS):
        if killed.total() >= KILLS:
            break
        (folder := tmp_path / str(study)).mkdir()
        killed += disturbed(slurm, folder, chance, KILLS - killed.total())
        assert numbers(folder / "runs") == expected(), killed
        slurm.clear()
    print(f"killed: {dict(killed)}")
    assert killed.total() >= KILLS


def disturbed(slurm: Slurm, folder: Path, chance: random.Random, most: int) -> Counter[str]:
    """One study from its submission to its last cell, with kills at random times; whom they met."""
    root, met, end = folder / "runs", Counter[str](), time.monotonic() + 240 + 30 * most
    submitted(slurm, folder)
    while finished(root) < CELLS:
        assert time.monotonic() < end, f"{finished(root)} cells; {slurm.jobs()}, {slurm.states()}, {logs(root)[-2000:]}"
        time.sleep(chance.uniform(0.5, 4))
        if met.total() < most:
            met[kill_one(slurm, folder, chance)] += 1
        if not slurm.jobs():  # all were killed themselves, which no scheduler mends, or all is done
            again = ask(words(folder), surroundings(slurm, folder))
            assert again.returncode == 0, again.stderr
    del met[""]
    return met


def kill_one(slurm: Slurm, folder: Path, chance: random.Random) -> str:
    """Who was killed, and is started again where nobody else does; '' where nobody was there."""
    who, node = chance.choice(["controller", "node", "daemon", "worker", "command"]), chance.choice(NODES)
    if who == "controller":
        slurm.restart_controller()
    elif who == "command":
        begun = subprocess.Popen(
            command(*words(folder)),
            env=surroundings(slurm, folder),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(chance.uniform(0, 6))
        begun.kill()
        return who if begun.wait() == -signal.SIGKILL else ""
    elif who == "worker":
        return who if kill(workers_of_any(slurm, node)[:1]) else ""
    else:
        slurm.kill_node(node)
        if who == "node":
            kill(workers_of_any(slurm, node))
        time.sleep(chance.choice([0, 8]))  # so soon that SLURM does not miss it, and later
        slurm.start_node(node)
    return who


def workers_of_any(slurm: Slurm, node: str) -> list[int]:
    return [number for job in {line.split("_")[0] for line in slurm.jobs("%i")} for number in workers_of(job, node)]
