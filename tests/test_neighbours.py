"""Threads that wait for each other sleep at once while other processes want the cores, and only then."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from inspect import cleandoc
from itertools import count
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikeproof import native
from spikeproof.native import _neighbours
from spikeproof.native._neighbours import Crowd, Heed

SAID = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
ALONE, BESIDE = (99, 1), (60, 40)
"""Milliseconds that threads ran, and were kept waiting."""


# --- when ---


def told(*looks: tuple[float, float]) -> list[bool]:
    crowd = Crowd()
    return [crowd.told(*look) for look in looks]


def test_others_are_there_at_the_first_look_that_shows_them() -> None:
    assert told(ALONE, ALONE, BESIDE) == [False, False, True]


def test_they_are_gone_after_ten_looks_in_a_row_that_show_none() -> None:
    assert told(BESIDE, *[ALONE] * 10) == [True] * 10 + [False]
    assert told(BESIDE, *[ALONE] * 9, BESIDE, *[ALONE] * 10) == [True] * 20 + [False]


def test_what_lies_between_changes_nothing() -> None:
    between = (88, 12)  # a small network whose threads sleep, beside one busy process
    assert told(*[between] * 3) == [False] * 3
    assert told(BESIDE, *[between] * 30) == [True] * 31


@given(st.lists(st.tuples(st.floats(1e-3, 1e12), st.floats(0, 1e12)), max_size=60), st.floats(1e-3, 1e3))
def test_only_shares_count(looks: list[tuple[float, float]], unit: float) -> None:
    near = [abs(waited / (ran + waited) - edge) < 1e-9 for ran, waited in looks for edge in (0.2, 0.05)]
    if not any(near):
        assert told(*looks) == told(*((ran * unit, waited * unit) for ran, waited in looks))


# --- what is done ---


class Library:
    """Notes what it is asked for."""

    def __init__(self, able: bool = True) -> None:
        self.asked: list[str] = []
        self.able = able

    def spikeproof_hold(self, threads: ctypes.c_int32, handle: Any) -> int:
        self.asked.append(f"hold beside {threads.value}")
        return int(self.able)

    def spikeproof_release(self, handle: Any) -> int:
        self.asked.append("release")
        return 1


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A function that has a Heed look once, a second after the last time and after (ran, waited) ms more."""
    ticks, total = count(1), [0, 0]
    for name in SAID:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_neighbours, "monotonic", lambda: float(next(ticks)))
    monkeypatch.setattr(_neighbours, "_times", lambda: tuple(total))
    monkeypatch.setattr(_neighbours, "_TIMES", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)

    def look(heed: Heed, library: Library, new: tuple[float, float]) -> bool:
        total[:] = [old + int(1e6 * ms) for old, ms in zip(total, new, strict=True)]
        heed(library)
        return heed.holding

    return look


def test_threads_are_held_while_there_are_others_and_once(looks: Any) -> None:
    heed, library = Heed(), Library()
    assert [looks(heed, library, ms) for ms in (ALONE, BESIDE, BESIDE)] == [False, True, True]
    assert library.asked == ["hold beside 2"]
    assert [looks(heed, library, ALONE) for _ in range(11)] == [True] * 9 + [False] * 2
    assert library.asked == ["hold beside 2", "release"]
    assert looks(heed, library, BESIDE)


def test_where_none_can_be_held_nobody_asks_again(looks: Any) -> None:
    heed, library = Heed(), Library(able=False)
    assert not any(looks(heed, library, BESIDE) for _ in range(5))
    assert library.asked == ["hold beside 2"]


def test_a_look_waits_until_threads_have_wanted_a_core_for_long_enough(looks: Any) -> None:
    heed, library = Heed(), Library()
    assert [looks(heed, library, (12, 8)) for _ in range(3)] == [False, False, True]


def test_one_thread_waits_for_none(looks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert not looks(Heed(), Library(), BESIDE)


@pytest.mark.parametrize("name", SAID)
def test_who_said_how_threads_wait_is_left_alone(looks: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "passive")
    assert not looks(Heed(), Library(), BESIDE)


def test_where_nobody_tells_the_times_nothing_is_done(looks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_neighbours, "_times", lambda: None)
    assert not looks(Heed(), Library(), BESIDE)


def test_a_forked_child_begins_anew(looks: Any) -> None:
    heed, library = Heed(), Library()
    assert looks(heed, library, BESIDE)
    heed.forked()
    assert not heed.holding
    looks(heed, library, BESIDE)
    assert library.asked == ["hold beside 2"] * 2, "and releases none of its parent's"


def test_looks_become_rarer_where_they_take_long(looks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_neighbours, "_TIMES", 5)  # a look takes a second by this clock
    heed, library, seen = Heed(), Library(), []
    monkeypatch.setattr(heed, "_look", lambda *_: seen.append(1))
    for _ in range(14):
        heed(library)
    assert len(seen) == 3, "the clock is asked twice at a look and once where it is not due"


# --- on this machine ---

CODE = cleandoc("""
    import json, os, resource, subprocess, sys, time
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])  # before libgomp counts them
    import ctypes, torch
    from spikeproof import native
    from spikeproof.native._neighbours import heed

    torch.set_num_threads(2)
    many, asleep, times = torch.ones(1 << 17), 0.005, 40

    def kept():
        start = time.process_time()
        for _ in range(times):
            many.add(1)
            time.sleep(asleep)
        return (time.process_time() - start) / (times * asleep)

    found, handle, library = {}, ctypes.c_void_p(), native.compiled()
    many.add(1)
    found["before"] = kept()
    found["held"] = library.spikeproof_hold(ctypes.c_int32(2), ctypes.byref(handle))
    time.sleep(0.05)
    found["while"] = kept()
    library.spikeproof_release(handle)
    found["after"] = kept()

    size = 1024 * int(open("/proc/self/status").read().split("VmSize:")[1].split()[0])
    unlimited = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + (24 << 20), unlimited[1]))  # some stacks
    found["narrow"] = library.spikeproof_hold(ctypes.c_int32(-1000), ctypes.byref(handle))  # a thousand more
    resource.setrlimit(resource.RLIMIT_AS, unlimited)

    currents = torch.zeros(10, 1 << 17)
    beside = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        end = time.monotonic() + 30
        while not heed.holding and time.monotonic() < end:
            native.scan(native.Membrane("add", 1.0, 1.0, 0.0), currents)
    finally:
        for one in beside:
            one.kill()
            one.wait()
    print(json.dumps({**found, "beside": heed.holding}))
""")
"""How much of the time in which there is nothing to do the cores are kept, and whether scans heed two processes."""

two_cores = pytest.mark.skipif(
    not native.available() or not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2
    or _neighbours._times() is None,
    reason="no C compiler, one core, or a system that tells nobody how long threads are kept waiting",
)  # fmt: skip


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    clean = {name: value for name, value in os.environ.items() if name not in SAID}
    done = subprocess.run([sys.executable, "-c", CODE], env=clean, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


@two_cores
def test_threads_that_are_held_make_others_sleep(found: dict[str, Any]) -> None:
    if not found["held"]:
        pytest.skip("another OpenMP than libgomp")
    assert found["while"] < 0.3, found
    assert found["while"] < 0.5 * min(found["before"], found["after"]), found


@two_cores
def test_where_there_is_no_room_for_threads_none_are_held_and_nobody_dies(found: dict[str, Any]) -> None:
    assert found["narrow"] == 0


@two_cores
def test_a_scan_beside_two_busy_processes_holds_them(found: dict[str, Any]) -> None:
    assert found["beside"] == bool(found["held"])
