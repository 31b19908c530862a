"""One run at a name, on whatever machine: by locks of the system where they hold, else by leases, and never silently.

Whether they hold in a folder is tried before anything is locked there, once in a process. A file system may refuse them
(ENOLCK, EOPNOTSUPP, ENOSYS), grant one to two at a time, or keep them to the machine that asks, as some mounts of
network disks do. Then there are leases; the file `leased` in the folder says so to every run that comes later, also to
one on a machine on which locks hold.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from spikeproof.errors import Locked, UsageError
from spikeproof.files import disk_errors
from spikeproof.store.at_work import Owner, sign, signed, unsign
from spikeproof.store.lease import claimed_by, leased, looks_alive

__all__ = ["Lock", "locked", "locking", "owner"]

_REFUSED = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}
_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}
_LEASED = "leased"

_ONLY_HERE = {
    "nfs": {"nolock", "local_lock=all", "local_lock=flock"},
    "nfs4": {"nolock", "local_lock=all", "local_lock=flock"},
    "lustre": {"localflock"},
    "cifs": {"nobrl"},
    "fuse.sshfs": set[str](),
    "beegfs": set[str](),
}
"""File system -> the options under which it keeps locks to one machine; none stands for any options."""

_OTHER = """
import fcntl, os, sys
try:
    fcntl.flock(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    sys.exit(75)
"""


class Lock(Protocol):
    """A name that is this run's while it is inside `locking`."""

    def check(self) -> None:
        """Raises Locked where another run has it meanwhile; called before anything that counts is written."""
        ...


class _Flock:
    """Of the system: it ends with its process and not before. It counts only where nobody keeps leases."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name

    def check(self) -> None:
        if (self._folder / _LEASED).exists():
            got = "a machine on which locks do not hold has come since, and keeps leases"
            raise Locked(f"{self._name} in {self._folder} for this run alone", got, mend="start again")


@contextmanager
def locking(folder: Path, name: str, patience: float | None) -> Iterator[Lock]:
    """A name in a folder for this run alone. Where another run has it, waits `patience` seconds (None: as long as it
    takes) and raises Locked. Raises UsageError for a folder in which nothing can keep two runs apart."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        leases = (folder / _LEASED).exists() or not _locks_hold(folder.resolve())
    if leases:
        with leased(folder, name, patience) as lease:
            yield lease
        return
    path = folder / f"{name}.lock"
    lock = FileLock(path, timeout=-1 if patience is None else patience, fallback_to_soft=False)
    with disk_errors(path):
        try:
            lock.acquire()
        except Timeout:
            mend = "start again when that one has ended"
            raise Locked(f"{name} in {folder} for this run", "another run has it", mend=mend) from None
    held = _Flock(folder, name)
    try:
        held.check()
        sign(folder, name)
        yield held
    finally:
        unsign(folder, name)
        lock.release()


def locked(folder: Path, name: str) -> bool:
    """Whether some run is at a name; nothing is made for it, and nobody who wants it is kept out for long."""
    if (folder / _LEASED).exists():
        return looks_alive(folder, name)
    try:
        file = os.open(folder / f"{name}.lock", os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _HELD
    finally:
        os.close(file)
    return False


def owner(folder: Path, name: str) -> Owner | None:
    """Who is at a name, as far as they have said so; None where nobody is."""
    if not locked(folder, name):
        return None
    return claimed_by(folder, name) if (folder / _LEASED).exists() else signed(folder, name)


@cache
def _locks_hold(folder: Path) -> bool:
    """Whether locks of the system hold in a folder; where not, it is marked, and told of, for all who come later."""
    why = _only_here(folder) or _tried(folder)
    if why is None:
        return True
    _refuse_shared_files(folder)
    try:
        os.close(os.open(folder / _LEASED, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    except FileExistsError:
        return False
    logging.getLogger(__name__).warning("locks do not hold in %s (%s); runs keep leases there instead", folder, why)
    return False


def _tried(folder: Path) -> str | None:
    """What is wrong with locks in a folder, by trying one; None where they hold on this machine."""
    file, path = tempfile.mkstemp(prefix=".try-", dir=folder)
    second = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return None  # one that keeps two openings of a file apart keeps two processes apart
        if error.errno in _REFUSED:
            return f"{error.strerror}"
        raise
    else:  # where locks belong to processes, only another process can tell
        return None if _kept_out(path) else "one was granted to two at a time"
    finally:
        os.close(second)
        os.close(file)
        os.unlink(path)


def _kept_out(path: str) -> bool:
    """Whether another process does not get the lock on a file that this one has. It starts in some ten milliseconds."""
    try:
        other = subprocess.run([sys.executable, "-I", "-S", "-c", _OTHER, path], timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return other.returncode == 75


def _only_here(folder: Path) -> str | None:
    """The mount of a folder, where its locks are known to hold on this machine alone."""
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in _mounts():
        own, _, rest = line.partition(" - ")
        kind, _, options = rest.partition(" ")
        if own.split(" ")[2:3] == [number] and kind in _ONLY_HERE:
            given = _ONLY_HERE[kind] & {*options.rpartition(" ")[2].split(",")}
            if given or not _ONLY_HERE[kind]:
                return f"{kind}, whose locks hold on one machine" + (f" with {min(given)}" if given else "")
    return None


def _mounts() -> list[str]:
    """As Linux tells of them: '36 35 98:0 / /mnt rw - ext4 /dev/sda rw'; none elsewhere."""
    try:
        return Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _refuse_shared_files(folder: Path) -> None:
    """UsageError where leases cannot be kept either: a file that is made anew must be there for one run alone, and
    read as it was written."""
    file, path = tempfile.mkstemp(prefix=".try-", dir=folder)
    try:
        os.write(file, b"whole")
        os.fsync(file)
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            wrong = "a file that two can make at a time"
        except FileExistsError:
            wrong = "" if Path(path).read_bytes() == b"whole" else "a file that is not as it was written"
    finally:
        os.close(file)
        os.unlink(path)
    if wrong:
        mend = "--out a folder on a local disk"
        raise UsageError(f"a file system that can keep two runs apart, at {folder}", wrong, mend=mend)
