"""Two users at one folder: what one has put there leads the other's writing nowhere else.

Run as `python strangers.py`, by root. In every case somebody plants something, then another user makes a cell.
Processes are forked from one that has imported everything: Python may lie where the users read nothing.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from racers import BROKEN, FAILED, FINISHED, KEY, cell_of

from spikeproof.errors import SpikeproofError

STRANGER, VICTIM, GROUP = 20001, 20002, 20003
WRONG = 3


def by(user: int, does: Callable[[], object]) -> int:
    """The exit code of a process of a user's own."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        os.setgroups([])
        os.setgid(GROUP)
        os.setuid(user)
        os.umask(0o022)
        does()
        os._exit(FINISHED)
    except SpikeproofError as error:
        print(f"  {error}", flush=True)
        os._exit(FAILED)
    except PermissionError:
        os._exit(WRONG)
    except BaseException:
        traceback.print_exc()
        os._exit(BROKEN)


def folder(path: Path, mode: int) -> Path:
    """A folder of whoever calls."""
    path.mkdir()
    path.chmod(mode)
    return path


def link(path: Path, to: Path) -> Callable[[], None]:
    return lambda: path.symlink_to(to)


def a_draft(cells: Path) -> None:
    folder(cells / f"{KEY}.partial", 0o777)


def a_lease(locks: Path, to: Path) -> None:
    (locks / "leased").touch()
    (locks / f"{KEY}.lease-1").symlink_to(to)


def planted(out: Path, home: Path) -> dict[str, Callable[[], object]]:
    """Of a folder that root has made for all: what a stranger does there."""
    cells, locks = out / "cells", out / "locks"
    return {
        "its cells lead to your home": link(cells, home),
        "its networks lead to your home": link(out / "models", home),
        "its locks lead to your home": link(locks, home),
        "its cells are a stranger's": lambda: folder(cells, 0o777),
        "its locks are a stranger's": lambda: folder(locks, 0o777),
        "a draft leads to your home": lambda: link(folder(cells, 0o755) / f"{KEY}.partial", home)(),
        "a draft is a stranger's": lambda: a_draft(cells),
        "a lock is your file": link(locks / f"{KEY}.lock", home / "letter"),
        "a lease is your file": lambda: a_lease(locks, home / "letter"),
    }


def made_by_root(case: str, out: Path) -> None:
    """What must be there for all, where a stranger comes only then."""
    folder(out, 0o777)
    if case == "a draft is a stranger's":
        folder(out / "cells", 0o777)
    if case in ("a lock is your file", "a lease is your file"):
        folder(out / "locks", 0o777)


def home_of(base: Path) -> Path:
    home = folder(base / "home", 0o700)
    (home / "letter").write_text("dear", encoding="utf-8")
    for path in (home, home / "letter"):
        os.chown(path, VICTIM, GROUP)
    return home


def contents(home: Path) -> dict[str, bytes]:
    return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}


def refused(base: Path, case: str) -> None:
    """The victim's run ends in an error, and its home is as it was."""
    home, out = home_of(base), base / "out"
    made_by_root(case, out)
    assert by(STRANGER, planted(out, home)[case]) == FINISHED, case
    before = contents(home)
    assert by(VICTIM, lambda: cell_of(out, 0.0)) == FAILED, case
    assert contents(home) == before, case
    assert sorted(path.name for path in home.iterdir()) == ["letter"], case


def roots(base: Path) -> None:
    """The folder itself is a stranger's."""
    home = home_of(base)
    assert by(STRANGER, link(base / "led", home)) == FINISHED
    assert by(STRANGER, lambda: folder(base / "open", 0o777)) == FINISHED
    for name in ("led", "open"):
        assert by(VICTIM, lambda name=name: cell_of(base / name, 0.0)) == FAILED, name
    assert list(contents(home)) == ["letter"]
    assert list((base / "open").iterdir()) == []


def welcome(base: Path) -> None:
    """One's own folder, one that root made for all, one of a group, one's own link: a cell is made; and no stranger
    changes it afterwards."""
    own, scratch, shared = (folder(base / name, mode) for name, mode in
                            (("own", 0o755), ("scratch", 0o777), ("shared", 0o2775)))  # fmt: skip
    os.chown(own, VICTIM, GROUP)
    os.chown(shared, STRANGER, GROUP)
    assert by(VICTIM, link(base / "link", own)) == FINISHED
    for out in (scratch, shared, base / "link"):
        assert by(VICTIM, lambda out=out: cell_of(out, 0.0)) == FINISHED, out
    rows = own / "cells" / KEY / "rows.jsonl"
    assert by(STRANGER, lambda: rows.write_text("", encoding="utf-8")) == WRONG
    assert by(STRANGER, lambda: rows.unlink()) == WRONG
    assert by(STRANGER, lambda: (own / "locks" / "leased").touch()) == WRONG


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        base = Path(made)
        base.chmod(0o777)
        (base / "weights").write_bytes(b"weights")
        cell_of(base / "warm", 0.0)  # whatever is imported late
        cases = list(planted(base, base))
        for case in cases:
            print(case, flush=True)
            place = folder(base / case, 0o777)
            (place / "weights").write_bytes(b"weights")
            refused(place, case)
        for case in (roots, welcome):
            place = folder(base / case.__name__, 0o777)
            (place / "weights").write_bytes(b"weights")
            case(place)
    print(f"{len(cases)} cases")


if __name__ == "__main__":
    sys.exit(main())
