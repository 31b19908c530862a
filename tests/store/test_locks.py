"""Which locks a store keeps: the system's where they hold, leases where they do not, and none where nothing can."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from spikeproof.errors import Locked, SpikeproofError, UsageError
from spikeproof.store import lease as leases
from spikeproof.store import locks
from spikeproof.store.lease import Lease
from spikeproof.store.locks import locked, locking
from spikeproof.store.store import Cell, Draft, Store
from spikeproof.training.checkpoint import write_tensors

NAME = "0123456789abcdef"


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Every test tries for itself whether locks hold."""
    locks._locks_hold.cache_clear()
    yield
    locks._locks_hold.cache_clear()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases whose seconds are hundredths."""
    for name in ("BEAT", "LAPSE", "_LOOK"):
        monkeypatch.setattr(leases, name, getattr(leases, name) / 100)


def refusing(number: int) -> Callable[..., None]:
    def flock(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    return flock


def without_effect(*_: Any) -> None:
    """A lock that does not lock."""


def kind_of(folder: Path) -> bool:
    """Whether a lock in a folder is a lease."""
    with locking(folder, NAME, None) as lock:
        lock.check()
        return isinstance(lock, Lease)


def test_locks_that_hold_are_used_without_asking_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a process was started"))
    assert not kind_of(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}.lock"]


@pytest.mark.parametrize(
    "flock", [*map(refusing, (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTSUP)), without_effect]
)
def test_where_locks_are_refused_or_lock_nothing_there_are_leases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, flock: Any
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", flock)
        assert kind_of(tmp_path)
        assert kind_of(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{NAME}.lease-2", "leased"]
    (said,) = [record.getMessage() for record in caplog.records]
    assert str(tmp_path) in said
    assert "leases" in said
    locks._locks_hold.cache_clear()
    assert kind_of(tmp_path), "also for a run whose own locks hold"


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_what_says_nothing_of_locks_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing(number))
    with pytest.raises(SpikeproofError, match=os.strerror(number)), locking(tmp_path, NAME, None):
        pass
    assert list(tmp_path.iterdir()) == []


def test_locks_that_keep_only_processes_apart_are_told_by_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a system makes them of those of POSIX, of which a process has each but once."""
    monkeypatch.setattr(fcntl, "flock", fcntl.lockf)
    assert kind_of(tmp_path / "another process gets it")
    monkeypatch.setattr(locks, "_OTHER", locks._OTHER.replace("fcntl.flock", "fcntl.lockf"))
    assert not kind_of(tmp_path / "another process is kept out")


def test_another_process_answers_in_no_time(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    taken = []
    for _ in range(5):
        before = time.perf_counter()
        assert not locks._kept_out(str(tmp_path / "file"))
        taken.append(time.perf_counter() - before)
    assert min(taken) < 0.1
    with open(tmp_path / "file", "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert locks._kept_out(str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("mount", "leases_there"),
    [
        ("ext4 /dev/vda rw,discard", False),
        ("nfs4 server:/home rw,vers=4.2,local_lock=none", False),
        ("nfs server:/home rw,vers=3,nolock,local_lock=all", True),
        ("nfs4 server:/home rw,local_lock=flock,vers=4.0", True),
        ("nfs server:/home rw,local_lock=posix", False),
        ("lustre 10.0.0.1@tcp:/work rw,flock,lazystatfs", False),
        ("lustre 10.0.0.1@tcp:/work rw,localflock,lazystatfs", True),
        ("beegfs beegfs_nodev rw,cfgFile=/etc/beegfs/client.conf", True),
        ("fuse.sshfs me@there: rw,user_id=0", True),
        ("cifs //server/share rw,nobrl", True),
    ],
)
def test_a_mount_that_keeps_locks_to_its_machine_gets_leases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mount: str, leases_there: bool
) -> None:
    device = tmp_path.stat().st_dev
    lines = [
        "22 27 0:999 / /elsewhere rw - nfs other:/ rw,nolock",
        f"36 35 {os.major(device)}:{os.minor(device)} / /mnt rw,noatime shared:1 - {mount}",
    ]
    monkeypatch.setattr(locks, "_mounts", lambda: lines)
    assert kind_of(tmp_path) == leases_there


def test_where_a_file_can_be_made_by_two_at_once_nothing_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open
    monkeypatch.setattr(fcntl, "flock", refusing(errno.ENOLCK))
    monkeypatch.setattr(os, "open", lambda path, flags, *more, **way: real(path, flags & ~os.O_EXCL, *more, **way))
    with (
        pytest.raises(UsageError, match=rf"keep two runs apart, at {tmp_path}.*--out a folder on a local disk"),
        locking(tmp_path, NAME, None),
    ):
        pass


def test_locks_that_are_refused_later_are_an_error_and_no_file_that_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never the lock that is a mere file, which a machine that is lost leaves for ever."""
    assert not kind_of(tmp_path)
    monkeypatch.setattr(fcntl, "flock", refusing(errno.ENOSYS))
    with pytest.raises(SpikeproofError, match=f"{NAME}.lock"), locking(tmp_path, NAME, None):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}.lock"]
    assert not (tmp_path / f"{NAME}.lock").read_bytes()


@pytest.mark.parametrize("leases_there", [False, True])
def test_a_locked_name_is_told_and_refused(tmp_path: Path, quick: None, leases_there: bool) -> None:
    if leases_there:
        (tmp_path / "leased").touch()
    assert not locked(tmp_path, NAME)
    with locking(tmp_path, NAME, None):
        assert locked(tmp_path, NAME)
        with pytest.raises(Locked, match=f"{NAME}.*another run has it.*start again"), locking(tmp_path, NAME, 0.05):
            pass
    assert not locked(tmp_path, NAME)
    with locking(tmp_path, NAME, 0.0):
        pass


def test_to_look_tries_nothing_and_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_tried", lambda _: pytest.fail("locks were tried"))
    assert not Store(tmp_path / "runs").locked(NAME)
    assert Store(tmp_path / "runs").finished(NAME) is None
    assert list(tmp_path.iterdir()) == []


# --- a cell whose lease is lost ---

ROWS: list[Any] = [{"kind": "clean", "image": i} for i in range(3)]


def filled(root: Path, draft: Draft, rows: list[Any]) -> Callable[[], Cell]:
    """A cell that is ready to be finished."""
    write_tensors(root / "weights", {"x": torch.arange(3.0)}, {})
    for stage in ("rows", "gradients", "history"):
        draft.write_stage(stage, rows if stage == "rows" else [])
    summary: Any = {"provenance": {}, "results": {}}
    return lambda: Store(root).finish(draft, {}, summary, "", root / "weights")


def overtaken(root: Path, rows: list[Any]) -> Callable[[], Cell]:
    """The end of a run that was taken for dead just before it, when another one has finished the cell with `ROWS`."""
    (root / "locks").mkdir(parents=True)
    (root / "locks" / "leased").touch()
    first = Lease(root / "locks", NAME)
    first.take(None)
    finish = filled(root, Store(root).draft(NAME, first), rows)
    first._stop.set()
    with Store(root).lock(NAME) as lock:
        filled(root, Store(root).draft(NAME, lock), ROWS)()
    return finish


def test_who_was_taken_for_dead_takes_the_cell_of_the_other(tmp_path: Path, quick: None) -> None:
    cell = overtaken(tmp_path, ROWS)()
    assert cell == Cell(NAME, tmp_path / "cells" / NAME)
    assert cell.damage() is None
    assert [path.name for path in (tmp_path / "cells").iterdir()] == [NAME]


def test_who_was_taken_for_dead_and_has_other_rows_says_which(tmp_path: Path, quick: None) -> None:
    with pytest.raises(SpikeproofError, match=rf"the same rows as at .*{NAME}, got others in rows\.jsonl"):
        overtaken(tmp_path, ROWS[:1])()
    assert Cell(NAME, tmp_path / "cells" / NAME).rows() == ROWS


def test_who_was_taken_for_dead_writes_and_renames_nothing(tmp_path: Path, quick: None) -> None:
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "leased").touch()
    first, other = Lease(tmp_path / "locks", NAME), Lease(tmp_path / "locks", f"model-{NAME}")
    first.take(None)
    other.take(None)
    draft = Store(tmp_path).draft(NAME, first)
    finish = filled(tmp_path, draft, ROWS)
    model = tmp_path / "models" / f"{NAME}.partial"
    model.mkdir(parents=True)
    (model / "model.safetensors").write_bytes(b"weights")
    (model / "training.json").write_bytes(b"{}")
    first._stop.set()
    other._stop.set()
    with Store(tmp_path).lock(NAME), Store(tmp_path).lock(f"model-{NAME}"):
        for writes in (
            lambda: draft.append("clean", ROWS),
            lambda: draft.write_stage("clean", ROWS),
            finish,
            lambda: Store(tmp_path).finish_model(model, NAME, other),
        ):
            with pytest.raises(Locked, match="another has it"):
                writes()
    assert Store(tmp_path).folders() == []
    assert Store(tmp_path).models() == []
    assert not (draft.folder / "clean.jsonl").exists()


def test_two_processes_at_one_draft_finish_it_whole_or_fail(tmp_path: Path) -> None:
    """Twenty times, at random distances: with locks that lock nothing and are not known to, and with those of the
    system without effect, which both find out."""
    for kind in ("unseen", "flock"):
        script = [sys.executable, str(Path(__file__).parents[1] / "racers.py"), str(tmp_path / kind), "20", kind]
        done = subprocess.run(script, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        assert "20 trials" in done.stdout
