"""Files written whole or not at all, their digests, and what a disk that refuses is called."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spikeproof.errors import SpikeproofError

__all__ = ["digest", "disk_errors", "write_bytes"]


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """A full or refusing disk becomes a SpikeproofError that names the file; what was on disk before is untouched."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        mend = "free some space and start again: finished work is kept" if full else "check the folder's permissions"
        if error.errno in (errno.ENOENT, errno.ESTALE):
            mend = "start again, and leave its folder alone meanwhile: it vanished while this ran"
        raise SpikeproofError(f"to write {path}", error.strerror or error, mend=mend) from error


def write_bytes(path: Path, data: bytes, *, anew: bool = True) -> None:
    """Under a temporary name, flushed to the disk, then renamed: a reader sees the old file or the new one, whole.

    anew: whether to make its folder where there is none; else that is a SpikeproofError.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_errors(path):
        if anew:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def digest(path: Path) -> str:
    """sha256 of a file, hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
