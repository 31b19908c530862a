"""How spikeproof refuses: what was expected, what came, what would be valid, and the mend, as fields of the error."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Self

__all__ = ["CutGraph", "Failed", "Locked", "SpikeproofError", "Unfinite", "UsageError", "within"]

_UNSAID = object()


class SpikeproofError(ValueError):
    """Something the user can mend.

    expected: what should have come, or the whole sentence where nothing came; got: what came, as text, None where
    nothing is said of it; valid: the values that would do; mend: what to do; path: the keys that lead to it in a
    configuration, outermost first, as far as they are known; where: the places it was found in (a file and line, a
    cell), outermost first.

    >>> str(SpikeproofError("a pooling", "'mean'", valid=["max", "avg"], mend="set model.pool"))
    "expected a pooling, got 'mean'; valid: max, avg; to mend: set model.pool"
    """

    def __init__(
        self, expected: str, got: object = _UNSAID, *, valid: Iterable[object] | None = None, mend: str = ""
    ) -> None:
        super().__init__(expected)
        self.expected = expected
        self.got = None if got is _UNSAID else str(got)
        self.valid = None if valid is None else tuple(str(value) for value in valid)
        self.mend = mend
        self.path: tuple[str | int, ...] = ()
        self.where: tuple[str, ...] = ()

    @property
    def says(self) -> str:
        """What is wrong, without where it is and without the mend."""
        text = self.expected if self.got is None else f"expected {self.expected}, got {self.got}"
        return text if self.valid is None else f"{text}; valid: {', '.join(self.valid)}"

    def __str__(self) -> str:
        return ": ".join([*self.where, f"{self.says}; to mend: {self.mend}" if self.mend else self.says])

    def at(self, place: str) -> Self:
        """The same error, found in a place: 'study.yaml:7', "cell 'max'"."""
        found = copy.copy(self)
        found.where = (place, *self.where)
        return found


class CutGraph(SpikeproofError):
    """No gradient reaches the attacked input: some layer or the encoder detaches it."""


class Unfinite(SpikeproofError):
    """A gradient with NaN or infinity in it."""


class Failed(SpikeproofError, RuntimeError):
    """Somebody else's network raised in its own forward or backward; what it raised is the cause."""


class UsageError(SpikeproofError):
    """A wrong name, option or value in a configuration, found before any work starts (exit code 2)."""


class Locked(SpikeproofError):
    """Another run is at it, and nothing is wrong: it will be done, or may be tried again later (exit code 75)."""


@contextmanager
def within(*keys: str | int) -> Iterator[None]:
    """A UsageError raised inside lies under these keys of the configuration."""
    try:
        yield
    except UsageError as error:
        error.path = (*keys, *error.path)
        raise
