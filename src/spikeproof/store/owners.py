"""Whose a folder is that is written into: what another user has put there must lead no writing elsewhere."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from spikeproof.errors import SpikeproofError
from spikeproof.files import disk_errors, write_bytes

__all__ = ["mark", "refuse_others"]

_ROOT = 0
_MEND = "--out a folder of your own"


def refuse_others(folder: Path) -> None:
    """Raises SpikeproofError for a folder, if it is there, that is another user's link, or another's and open to
    everybody, so that whoever owns it may turn it into one."""
    try:
        found, target = folder.lstat(), folder.stat()
    except OSError:
        return  # not there, or for nobody to be written into, which the writing will say
    if stat.S_ISLNK(found.st_mode) and found.st_uid not in (os.geteuid(), _ROOT):
        raise SpikeproofError(f"a folder at {folder}", f"a link that user {found.st_uid} made", mend=_MEND)
    if target.st_uid in (os.geteuid(), _ROOT) or not target.st_mode & stat.S_IWOTH:
        return
    with disk_errors(folder), tempfile.TemporaryFile(dir=folder) as mine:
        owner = os.fstat(mine.fileno()).st_uid
    if owner != target.st_uid:  # on some disks all belongs to one user
        raise SpikeproofError(f"a folder of this user's at {folder}", f"one of user {target.st_uid}", mend=_MEND)


def mark(draft: Path, name: str, text: bytes) -> None:
    """Write a file into the folder of a draft, whose owner must be the file's. Raises SpikeproofError for a link, and
    for another user's folder."""
    mend = "delete it, which loses what was begun there"
    if draft.is_symlink():
        raise SpikeproofError(f"a folder at {draft}", "a link", mend=mend)
    write_bytes(draft / name, text, anew=False)
    with disk_errors(draft):
        owner, own = draft.stat().st_uid, (draft / name).stat().st_uid
    if owner != own:
        raise SpikeproofError(f"a draft of this user's at {draft}", f"one of user {owner}", mend=mend)
