"""A study on a real Ray cluster of two nodes, one of which is killed: the rows of an undisturbed local run."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tinycell import command, numbers
from undisturbed import CELLS, KILLS, ask, environment, expected, finished, study_file, until

from spikeproof.errors import SpikeproofError
from spikeproof.study import ray_tasks

ray = pytest.importorskip("ray", reason="make cluster installs it")


class TwoNodes:
    """A head without work, and two nodes of one core each, which ends with what it has started.

    At this machine's own address: what is given as 127.0.0.1 Ray takes for that.
    """

    def __init__(self, given: dict[str, str]) -> None:
        from ray.cluster_utils import Cluster

        os.environ.update(given)
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        self.nodes = [self.cluster.add_node(num_cpus=1) for _ in range(2)]
        self.cluster.wait_for_nodes(60)

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def lose(self) -> None:
        """The node's own processes, by their numbers, at once, and what they have started."""
        self.cluster.remove_node(self.nodes.pop(), allow_graceful=False)

    def lose_head(self) -> None:
        """Ray's own, which keeps what Ray knows of tasks and nodes."""
        self.cluster.remove_node(self.cluster.head_node, allow_graceful=False)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoNodes]:
    folder = tmp_path_factory.mktemp("ray")
    before = dict(os.environ)
    running = TwoNodes({**environment(folder), "RAY_USAGE_STATS_ENABLED": "0"})
    yield running
    running.cluster.shutdown()
    os.environ.clear()
    os.environ.update(before)


def words(folder: Path, address: str) -> list[str]:
    study = ["study", str(study_file(folder)), "--engine", "ray", "--address", address, "--jobs", "2"]
    return [*study, "--out", str(folder / "runs")]


def local(folder: Path) -> list[str]:
    study = ["study", str(study_file(folder)), "--out", str(folder / "runs")]
    return [*study, "--workers", "2", "--threads", "1", "--quiet"]


def test_cells_of_a_lost_node_run_elsewhere(two: TwoNodes, tmp_path: Path) -> None:
    root, wanted = tmp_path / "runs", expected()
    head = subprocess.Popen(
        command(*words(tmp_path, two.address)), env=environment(tmp_path), stderr=subprocess.PIPE, text=True
    )
    try:
        until(lambda: finished(root) >= 2, 240, "two finished cells")
        two.lose()
        assert finished(root) < CELLS
        said = head.communicate(timeout=300)[1]
    finally:
        head.kill()
    assert head.returncode == 0, said
    assert len(re.findall(r"^\[\d+/12\] [\w-]+: done in", said, re.MULTILINE)) >= CELLS - 1, said
    assert numbers(root) == wanted


def test_a_head_that_is_killed_goes_on_from_where_it_was_with_another_engine(two: TwoNodes, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    head = subprocess.Popen(
        command(*words(tmp_path, two.address)), env=environment(tmp_path), stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: finished(root) >= 1, 240, "a finished cell")
    finally:
        head.send_signal(signal.SIGKILL)
        head.wait()
    done = ask(local(tmp_path), environment(tmp_path))
    assert done.returncode == 0, done.stderr
    assert numbers(root) == expected()


def test_a_head_that_does_not_answer_is_said_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes connections and says nothing."""
    monkeypatch.setattr(ray_tasks, "_PATIENCE", 15.0)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        started = time.monotonic()
        with pytest.raises(SpikeproofError, match=r"expected a Ray cluster at 127\.0\.0\.1:.*ray start --head"):
            ray_tasks._connected(f"127.0.0.1:{deaf.getsockname()[1]}")
        assert time.monotonic() - started < 60


def test_a_cluster_whose_head_is_lost_ends_the_command_and_loses_no_cell(two: TwoNodes, tmp_path: Path) -> None:
    """The last one of this cluster, which is none after it."""
    root = tmp_path / "runs"
    given = {**environment(tmp_path), "RAY_gcs_rpc_server_reconnect_timeout_s": "10"}
    head = subprocess.Popen(command(*words(tmp_path, two.address)), env=given, stderr=subprocess.DEVNULL)
    try:
        until(lambda: finished(root) >= 1, 240, "a finished cell")
        two.lose_head()
        assert head.wait(180) != 0
    finally:
        head.kill()
    assert 1 <= finished(root) < CELLS
    done = ask(local(tmp_path), environment(tmp_path))
    assert done.returncode == 0, done.stderr
    assert numbers(root) == expected()


def test_whatever_is_killed_again_and_again_the_rows_are_those_of_one_run(tmp_path: Path) -> None:
    """The command, Ray's head, or a node, each by itself; study after study, on clusters that are made anew where one
    was lost, until there were kills enough."""
    killed, chance, study = Counter[str](), random.Random(13), 0
    running = TwoNodes({**environment(tmp_path), "RAY_USAGE_STATS_ENABLED": "0"})
    try:
        while killed.total() < KILLS:
            (folder := tmp_path / str(study)).mkdir(exist_ok=True)
            who = chance.choice(["command", "head", "node"])
            met = kill_one(running, folder, who, chance.uniform(5, 20))
            killed += Counter([met] if met else [])
            if met in ("head", "node"):
                running.cluster.shutdown()
                running = TwoNodes({})
            if finished(folder / "runs") == CELLS or killed.total() >= KILLS:
                done = ask(words(folder, running.address), environment(folder))
                assert done.returncode == 0, done.stderr
                assert numbers(folder / "runs") == expected(), killed
                study += 1
    finally:
        running.cluster.shutdown()
    print(f"killed: {dict(killed)} in {study} studies")


def kill_one(two: TwoNodes, folder: Path, who: str, seconds: float) -> str:
    """Begin a study, or go on with it, and kill `who` after so many seconds; '' where all was done before."""
    given = {**environment(folder), "RAY_gcs_rpc_server_reconnect_timeout_s": "10"}
    said = folder / "said"
    with open(said, "ab") as file:
        begun = subprocess.Popen(command(*words(folder, two.address)), env=given, stderr=file)
    try:
        with suppress(subprocess.TimeoutExpired):
            assert begun.wait(seconds) == 0, said.read_text(encoding="utf-8")
            return ""
        if who == "command":
            return who
        if who == "node":
            two.lose()
            assert begun.wait(300) == 0, said.read_text(encoding="utf-8")
            return who
        two.lose_head()
        assert begun.wait(180) != 0 or finished(folder / "runs") == CELLS
        return who
    finally:
        begun.kill()
        begun.wait()
