"""Code that is not spikeproof's: imported where a user has named it, never because stored data do.

A configuration that somebody hands to a command or to a function may name parts of their own by a dotted path. The one
beside the results of a finished cell is data, whoever wrote it: inside `stored` nothing that it names is imported.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType

from spikeproof.errors import UsageError

__all__ = ["Untrusted", "imported", "stored", "trusting"]

_STORED: ContextVar[str | None] = ContextVar("stored", default=None)


class Untrusted(UsageError):
    """Stored data name code that is not spikeproof's."""


@contextmanager
def stored(where: object, *, trust: bool = False) -> Iterator[None]:
    """What is read inside comes from data at `where`; trust: the user knows them, and the code that they name."""
    token = _STORED.set(None if trust else str(where))
    try:
        yield
    finally:
        _STORED.reset(token)


def trusting() -> bool:
    """Whether a dotted path would be imported here."""
    return _STORED.get() is None


def imported(path: str) -> ModuleType:
    """The module of a dotted path 'package.module:Name', also from the working directory.

    Raises whatever the module raises, and Untrusted, with nothing imported, where stored data name it.
    """
    module = path.partition(":")[0]
    if (where := _STORED.get()) is not None:
        got = f"{path!r}, for which the module {module!r} would be imported and run"
        mend = "--trust, in Python trust=True, if you know that module and who wrote these data"
        raise Untrusted(f"parts of spikeproof alone in {where}", got, mend=mend)
    if "" not in sys.path:
        # Last and not before: a file of this folder never stands in for a package, nor runs before it is named.
        sys.path.append("")
    return importlib.import_module(module)
