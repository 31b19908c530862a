"""Files written whole or not at all, their digests, and what a disk that refuses is called."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from spikeproof.errors import SpikeproofError

__all__ = ["digest", "disk_errors", "refused_by_disk", "write_bytes", "write_pieces"]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_GONE = (errno.ENOENT, errno.ESTALE)


def refused_by_disk(expected: str, error: OSError) -> SpikeproofError:
    """An error of the disk by its own name: a full one, one that forbids, and any other, which tells no reason."""
    mend = "look at what is there, and start again: finished work is kept"
    if error.errno in _FULL:
        mend = "free some space and start again: finished work is kept"
    elif error.errno in _FORBIDDEN:
        mend = "check the permissions of it and of its folder"
    elif error.errno in _GONE:
        mend = "start again, and leave its folder alone meanwhile: it vanished while this ran"
    return SpikeproofError(expected, error.strerror or error, mend=mend)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """A full or refusing disk becomes a SpikeproofError that names the file; what was on disk before is untouched."""
    try:
        yield
    except OSError as error:
        raise refused_by_disk(f"to write {path}", error) from error


def write_bytes(path: Path, data: bytes, *, anew: bool = True) -> None:
    """Under a temporary name, flushed to the disk, then renamed: a reader sees the old file or the new one, whole.

    anew: whether to make its folder where there is none; else that is a SpikeproofError.
    """
    write_pieces(path, [data], anew=anew)


def write_pieces(
    path: Path, pieces: Iterable[bytes], *, anew: bool = True, first: Callable[[], None] = lambda: None
) -> None:
    """The same of what is made piece by piece; `first` is called when all are on the disk, before the file is there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_errors(path):
        if anew:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.unlink(missing_ok=True)  # of a killed run, or another user's link
            with open(temporary, "xb") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
            first()
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def digest(path: Path) -> str:
    """sha256 of a file, hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
