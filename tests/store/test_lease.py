"""Leases: one run at a time, on whatever machine, by what can be seen of a file and not by anybody's clock."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spikeproof.errors import Locked, SpikeproofError
from spikeproof.store import lease as leases
from spikeproof.store.lease import BEAT, LAPSE, Lease, leased, looks_alive

NAME = "0123456789abcdef"


class Clock:
    """In place of the module `time`: seconds pass only in `sleep`, and what happens meanwhile is `at`'s."""

    def __init__(self) -> None:
        self.now, self.today, self.at = 1000.0, 1.8e9, list[Callable[[float], None]]()

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.today

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.today += seconds
        for happens in self.at:
            happens(self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(leases, "time", clock)
    return clock


def claim(folder: Path, generation: int = 1, beat: int = 0, state: str = "held") -> Path:
    """What a run of another machine leaves."""
    path = folder / f"{NAME}.lease-{generation}"
    facts = {"host": "elsewhere", "pid": 7, "start": "2026-01-01T00:00:00+00:00", "token": "ff" * 8}
    path.write_bytes(json.dumps({**facts, "generation": generation, "beat": beat, "state": state}).encode().ljust(512))
    return path


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def seconds_to_take(folder: Path, clock: Clock, patience: float | None = None) -> float:
    before = clock.now
    with leased(folder, NAME, patience) as mine:
        mine.check()
    return clock.now - before


def test_a_name_is_taken_given_back_and_taken_again_without_waiting(tmp_path: Path, clock: Clock) -> None:
    for generation in (1, 2, 3):
        with leased(tmp_path, NAME, None) as mine:
            assert mine.generation == generation
            assert names_in(tmp_path) == [f"{NAME}.lease-{generation}"]
            mine.check()
    assert clock.now == Clock().now


def test_a_claim_says_whose_it_is(tmp_path: Path) -> None:
    with leased(tmp_path, NAME, None):
        facts = json.loads((tmp_path / f"{NAME}.lease-1").read_bytes())
    assert (facts["pid"], facts["generation"], facts["state"]) == (os.getpid(), 1, "held")
    assert {"host", "start", "token", "beat"} < facts.keys()


def test_an_owner_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT", 0.005)
    with leased(tmp_path, NAME, None):
        path, seen = tmp_path / f"{NAME}.lease-1", set[bytes]()
        for _ in range(2000):
            seen.add(path.read_bytes())
            if len(seen) > 3:
                break
            threading.Event().wait(0.005)
        assert len(seen) > 3
        assert {len(text) for text in seen} == {512}


def test_a_dead_owner_is_waited_for_as_long_as_is_stated_and_no_longer(tmp_path: Path, clock: Clock) -> None:
    claim(tmp_path, beat=9)
    assert LAPSE <= seconds_to_take(tmp_path, clock) <= LAPSE + 3
    assert names_in(tmp_path) == [f"{NAME}.lease-2"]


@pytest.mark.parametrize("junk", [b"", b"{", b"[1]", b"\xff" * 600, b"null"])
def test_a_claim_that_cannot_be_read_is_still_a_claim(tmp_path: Path, clock: Clock, junk: bytes) -> None:
    claim(tmp_path).write_bytes(junk)
    assert LAPSE <= seconds_to_take(tmp_path, clock) <= LAPSE + 3


def beating(clock: Clock, folder: Path, until: float) -> None:
    """The owner of the claim, on another machine, lives until a time."""
    start = clock.now

    def beat(now: float) -> None:
        if now < until:
            claim(folder, beat=int((now - start) / BEAT))

    clock.at.append(beat)


def test_an_owner_that_lives_elsewhere_is_never_broken(tmp_path: Path, clock: Clock) -> None:
    claim(tmp_path)
    end = clock.now + 1_000.0
    beating(clock, tmp_path, end)
    with leased(tmp_path, NAME, None):
        assert end - BEAT + LAPSE <= clock.now <= end + LAPSE + 3


@pytest.mark.parametrize("patience", [0.0, 100.0])
def test_patience_ends_once_the_owner_is_known_to_live(tmp_path: Path, clock: Clock, patience: float) -> None:
    claim(tmp_path)
    before = clock.now
    beating(clock, tmp_path, before + 1_000.0)
    with pytest.raises(Locked, match=r"process 7 on elsewhere, since 2026"), leased(tmp_path, NAME, patience):
        pass
    assert max(patience, 1.0) <= clock.now - before <= patience + 2 * BEAT
    assert names_in(tmp_path) == [f"{NAME}.lease-1"]


def test_without_patience_a_dead_owner_is_still_found_out(tmp_path: Path, clock: Clock) -> None:
    """Or a command that does not wait would never get past a machine that was lost."""
    claim(tmp_path)
    assert LAPSE <= seconds_to_take(tmp_path, clock, patience=0.0) <= LAPSE + 3


def test_a_clock_that_jumps_breaks_nothing(tmp_path: Path, clock: Clock) -> None:
    """This machine sleeps for an hour between two looks; the date is set forward and back; times of files are odd."""
    path = claim(tmp_path)
    looks = 0

    def jump(_: float) -> None:
        nonlocal looks
        looks += 1
        clock.now += 3600.0
        clock.today += 1e8 if looks % 2 else -1e8
        os.utime(path, (looks, (looks % 2) * 4e9)) if path.exists() else None

    clock.at.append(jump)
    with leased(tmp_path, NAME, None):
        assert looks >= LAPSE / 2


def test_a_run_that_was_taken_for_dead_finds_out_and_disturbs_nobody(tmp_path: Path, clock: Clock) -> None:
    first = Lease(tmp_path, NAME)
    first.take(None)
    first._stop.set()  # as a machine that hangs
    with leased(tmp_path, NAME, None) as second:
        with pytest.raises(Locked, match=r"another has it.*start again"):
            first.check()
        first.free()
        second.check()
        assert json.loads((tmp_path / f"{NAME}.lease-2").read_bytes())["state"] != "free"
        with pytest.raises(Locked):
            first.check()


def test_a_claim_that_others_have_left_behind_meanwhile_is_none(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This run looked when nothing was there, and comes to claim generation 1 when another holds 2."""
    claim(tmp_path, generation=2)
    looked, looks = leases._last, iter([None])
    monkeypatch.setattr(leases, "_last", lambda *place: next(looks, looked(*place)))
    assert LAPSE <= seconds_to_take(tmp_path, clock) <= LAPSE + 3
    assert names_in(tmp_path) == [f"{NAME}.lease-3"]


@pytest.mark.parametrize("lost", ["removed", "of another run"])
def test_a_claim_that_is_not_this_runs_any_more_is_lost(tmp_path: Path, lost: str) -> None:
    with leased(tmp_path, NAME, None) as mine:
        (tmp_path / f"{NAME}.lease-1").unlink()
        if lost != "removed":
            claim(tmp_path)
        with pytest.raises(Locked):
            mine.check()


def test_a_full_disk_leaves_no_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(SpikeproofError, match="free some space"), leased(tmp_path, NAME, None):
            pass
    assert names_in(tmp_path) == []


def test_a_link_in_place_of_a_claim_is_not_followed(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "locks").mkdir()
    (tmp_path / "mine").write_text('{"state": "free"}', encoding="utf-8")
    (tmp_path / "locks" / f"{NAME}.lease-1").symlink_to(tmp_path / "mine")
    with pytest.raises(SpikeproofError, match="locks"), leased(tmp_path / "locks", NAME, None):
        pass
    assert (tmp_path / "mine").read_text(encoding="utf-8") == '{"state": "free"}'


def test_other_names_are_other_claims(tmp_path: Path, clock: Clock) -> None:
    claim(tmp_path)
    (tmp_path / f"{NAME}.lease-old").touch()
    with leased(tmp_path, f"model-{NAME}", None), leased(tmp_path, NAME[:-1], None):
        assert clock.now == Clock().now


def test_a_look_tells_who_is_at_work(tmp_path: Path, clock: Clock) -> None:
    assert not looks_alive(tmp_path, NAME)
    path = claim(tmp_path)
    os.utime(path, (clock.today, clock.today))
    assert looks_alive(tmp_path, NAME)
    clock.today += LAPSE + 1
    assert not looks_alive(tmp_path, NAME)
    os.utime(claim(tmp_path, state="free"), (clock.today, clock.today))
    assert not looks_alive(tmp_path, NAME)


def test_many_at_once_are_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_LOOK", 0.002)
    inside, most, turns = 0, 0, 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most, turns
        for _ in range(5):
            with leased(tmp_path, NAME, None) as mine:
                with guard:
                    inside, turns = inside + 1, turns + 1
                    most = max(most, inside)
                threading.Event().wait(0.002)
                mine.check()
                with guard:
                    inside -= 1

    crew = [threading.Thread(target=work) for _ in range(4)]
    for one in crew:
        one.start()
    for one in crew:
        one.join(timeout=60)
    assert (most, turns) == (1, 20)
