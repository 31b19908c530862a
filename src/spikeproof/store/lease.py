"""A lock for disks whose own locks do not hold: a file that says whose it is, and beats.

A claim is the file `NAME.lease-GENERATION`, made with O_EXCL, so that one run alone can make it; the highest generation
counts. Its owner writes a new number into it every few seconds. Who wants it watches, and claims the next generation
where it has been given back, or where nothing in it has changed for `LAPSE` seconds of watching: no clock is compared
with that of another machine. A run that was taken for dead and is not finds, before it writes, that a higher generation
is there.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from spikeproof.errors import Locked
from spikeproof.files import disk_errors
from spikeproof.store.at_work import Owner, myself, owner_of

__all__ = ["BEAT", "LAPSE", "Lease", "claimed_by", "leased", "looks_alive"]

BEAT, LAPSE = 5.0, 60.0
"""Seconds between two beats; seconds without one after which the owner is taken for dead."""

_LOOK = 1.0
"""Seconds between two looks at another's claim."""

_SIZE = 512
"""Bytes of a claim: always as many, so that a beat is written in one piece over the one before."""


class _Claim(NamedTuple):
    """The highest generation of a name that is there, and what its file says."""

    generation: int
    text: bytes

    @property
    def facts(self) -> dict[str, Any]:
        """What its owner wrote; empty where that is not there, or not yet."""
        try:
            found = json.loads(self.text)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def free(self) -> bool:
        return self.facts.get("state") == "free"


def _path(folder: Path, name: str, generation: int) -> Path:
    return folder / f"{name}.lease-{generation}"


def _generations(folder: Path, name: str) -> list[int]:
    start = f"{name}.lease-"
    ends = [entry.removeprefix(start) for entry in os.listdir(folder) if entry.startswith(start)]
    return sorted(int(end) for end in ends if end.isdecimal() and len(end) < 16)


def _last(folder: Path, name: str) -> _Claim | None:
    """The claim that counts; None where there is none."""
    for generation in reversed(_generations(folder, name)):
        # Opened anew every time: what a network disk has kept of it here is looked at again then.
        with suppress(FileNotFoundError), open(_path(folder, name, generation), "rb", opener=_no_link) as file:
            return _Claim(generation, file.read(_SIZE + 1))
    return None


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def looks_alive(folder: Path, name: str) -> bool:
    """Whether somebody is at it, as far as one look tells: by the time of the last beat, which needs equal clocks, so
    it is for telling only."""
    if (claim := _last(folder, name)) is None or claim.free:
        return False
    with suppress(FileNotFoundError):
        return time.time() - _path(folder, name, claim.generation).stat().st_mtime < LAPSE
    return False


def claimed_by(folder: Path, name: str) -> Owner | None:
    """Who made the claim that counts, whether they live or not."""
    return None if (claim := _last(folder, name)) is None else owner_of(claim.facts)


class _Watch:
    """Another's claim, and for how long it has not changed while it was looked at."""

    def __init__(self) -> None:
        self._seen: _Claim | None = None
        self._looked = 0.0
        self.still, self.changed = 0.0, False

    def look(self, claim: _Claim) -> None:
        # A step is bounded: of the time in which this run itself, or its disk, stood still it knows nothing.
        now = time.monotonic()
        if claim == self._seen:
            self.still += min(now - self._looked, 2 * _LOOK)
        else:
            self.changed, self.still = self._seen is not None, 0.0
        self._seen, self._looked = claim, now


class Lease:
    """A name in a folder, for one run: `take` it, `check` it before what is written may count, and `free` it."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._owner = {**myself(), "token": os.urandom(8).hex()}
        self._stop = threading.Event()
        self._beats: threading.Thread | None = None
        self._file = -1
        self.generation = 0

    def take(self, patience: float | None) -> None:
        """Waits for `patience` seconds (None: as long as it takes) and until it is known whether its owner lives;
        raises Locked where it does."""
        watch, started = _Watch(), time.monotonic()
        while not self._try(watch):
            if patience is not None and watch.changed and time.monotonic() - started >= patience:
                raise self._taken("another run has it")
            time.sleep(_LOOK)
        self._beats = threading.Thread(target=self._beat, daemon=True)
        self._beats.start()

    def _try(self, watch: _Watch) -> bool:
        with disk_errors(self._folder):
            last = _last(self._folder, self._name)
            if last is not None and not last.free:
                watch.look(last)
                if watch.still < LAPSE:
                    return False
            return self._claimed(1 if last is None else last.generation + 1)

    def _claimed(self, generation: int) -> bool:
        """Whether this run is the one that made the claim of a generation, and it is the highest."""
        path = _path(self._folder, self._name, generation)
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        except FileExistsError:
            return False
        self.generation = generation
        try:
            self._write(0, "held")
            *lower, highest = _generations(self._folder, self._name)
            for old in lower if highest == generation else []:
                _path(self._folder, self._name, old).unlink(missing_ok=True)
        except BaseException:
            self._withdraw(path)
            raise
        if highest != generation:  # this one had been taken, and removed again above, since this run last looked
            self._withdraw(path)
        return highest == generation

    def _withdraw(self, path: Path) -> None:
        os.close(self._file)
        path.unlink(missing_ok=True)

    def _write(self, beat: int, state: str) -> None:
        facts = {**self._owner, "generation": self.generation, "beat": beat, "state": state}
        os.pwrite(self._file, json.dumps(facts).encode().ljust(_SIZE), 0)  # into its own file, whatever has that name
        os.fsync(self._file)

    def _beat(self) -> None:
        beat = 0
        while not self._stop.wait(BEAT):
            beat += 1
            with suppress(OSError):  # who cannot beat is found out by `check`
                self._write(beat, "held")

    def check(self) -> None:
        """Raises Locked where another run has taken this one for dead."""
        with disk_errors(self._folder):
            last = _last(self._folder, self._name)
        if last is None or last.facts.get("token") != self._owner["token"]:
            raise self._taken(f"none any more: this run was not heard of for {LAPSE:.0f} s, and another has it")

    def _taken(self, why: str) -> Locked:
        with suppress(OSError):
            facts = claim.facts if (claim := _last(self._folder, self._name)) else {}
            why += f" (process {facts.get('pid')} on {facts.get('host')}, since {facts.get('start')})" if facts else ""
        return Locked(f"the lease of {self._name} in {self._folder}", why, mend="start again when that one has ended")

    def free(self) -> None:
        """Give it back: the next run need not wait."""
        self._stop.set()
        if self._beats is not None:
            self._beats.join()
        with suppress(OSError):
            self._write(-1, "free")
        with suppress(OSError):
            os.close(self._file)


@contextmanager
def leased(folder: Path, name: str, patience: float | None) -> Iterator[Lease]:
    """A lease, held inside."""
    lease = Lease(folder, name)
    lease.take(patience)
    try:
        yield lease
    finally:
        lease.free()
