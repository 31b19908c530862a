"""Who is at a name: the machine, the process, since when, and as which job of a scheduler. For telling only."""

from __future__ import annotations

import datetime
import json
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from spikeproof.errors import SpikeproofError
from spikeproof.files import write_bytes

__all__ = ["JOB", "Owner", "myself", "owner_of", "sign", "signed", "unsign"]

JOB = "SPIKEPROOF_JOB"
"""The environment's word for what an engine calls this process: 'slurm 12_3'."""

_LONGEST = 100
"""Characters of a text of it: a claim of a lease has 512 bytes in all."""

_LARGEST = 4096


class Owner(NamedTuple):
    """A process; since: ISO 8601, of its machine's clock; job: '' where no scheduler has started it."""

    host: str
    pid: int
    since: str
    job: str

    def __str__(self) -> str:
        return f"{self.job or 'process'} on {self.host} ({self.pid}) since {self.since}"


def myself() -> dict[str, Any]:
    """This process, as plain JSON."""
    return {
        "host": _short(socket.gethostname()),
        "pid": os.getpid(),
        "start": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "job": _short(os.environ.get(JOB, "")),
    }


def _short(text: str) -> str:
    return text.encode("ascii", "replace").decode()[:_LONGEST]


def owner_of(facts: Mapping[str, Any]) -> Owner | None:
    """Of what `myself` gave; None where that is something else. Characters that move a cursor are left out."""
    host, pid, since, job = (facts.get(name, "") for name in ("host", "pid", "start", "job"))
    if not (isinstance(pid, int) and all(isinstance(text, str) for text in (host, since, job))):
        return None
    shown = ("".join(c for c in text[:_LONGEST] if c.isprintable()) for text in (host, since, job))
    host, since, job = shown
    return Owner(host, pid, since, job)


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.at"


def sign(folder: Path, name: str) -> None:
    """Say that this process has a name; where the disk refuses that, nobody is told, and nothing else is lost."""
    with suppress(SpikeproofError):
        write_bytes(_path(folder, name), json.dumps(myself()).encode(), anew=False)


def unsign(folder: Path, name: str) -> None:
    with suppress(OSError):
        _path(folder, name).unlink()


def signed(folder: Path, name: str) -> Owner | None:
    """Who signed last, which a killed process could not take back: ask a lock whether anybody is there."""
    with suppress(OSError, ValueError):
        file = os.open(_path(folder, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(file, "rb") as opened:
            facts = json.loads(opened.read(_LARGEST))
        return owner_of(facts) if isinstance(facts, dict) else None
    return None
