"""The rows of one file of a cell, told apart by kind once, and read as rows or, a field of all of them, as columns.

A number over a thousand rows needs two or three of their fields. `Lines` of a list take them out of its rows; those of
a packed cell (`store.packed`) have them lying side by side already, and make no rows for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from operator import eq
from typing import Any, Generic, TypeVar, overload

from spikeproof.errors import SpikeproofError

__all__ = ["ABSENT", "DAMAGED", "Lines", "lacking"]

ABSENT = object()
"""What stands in a column of `inner` where an object has no such field: None is a value of some."""

DAMAGED = "the rows are damaged: run the cell anew"

R = TypeVar("R", bound=Mapping[str, Any], covariant=True)


def lacking(row: Mapping[str, object], field: str) -> SpikeproofError:
    """The refusal of a row, or of columns, without a field that must be there."""
    return SpikeproofError(f"a row with the field {field!r}", sorted(row), mend=DAMAGED)


class Lines(Sequence[R], Generic[R]):
    """Rows in the order in which they were written. What is asked of a kind is checked and made at first, and kept."""

    def __init__(self, rows: Iterable[R]) -> None:
        self._given = rows if isinstance(rows, list) else list(rows)

    @property
    def _all(self) -> list[R]:
        return self._given

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[R]:
        return iter(self._all)

    def __eq__(self, other: object) -> bool:
        """Whether these are the same rows in the same order."""
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # as of a list

    @overload
    def __getitem__(self, index: int) -> R: ...

    @overload
    def __getitem__(self, index: slice) -> list[R]: ...

    def __getitem__(self, index: int | slice) -> R | list[R]:
        return self._all[index]

    @cached_property
    def _by_kind(self) -> dict[object, list[Any]]:
        found: dict[object, list[Any]] = {}
        for row in self._all:
            if "kind" not in row:
                raise lacking(row, "kind")
            found.setdefault(row["kind"], []).append(row)
        return found

    @cached_property
    def _checked(self) -> set[str | None]:
        return set()

    def of(self, kind: str | None, needed: frozenset[str]) -> list[Any]:
        """The rows of one kind, or where it is None all, which need no kind then. Raises SpikeproofError where a row
        has no kind, and where one of this kind lacks a field that is needed."""
        found = self._all if kind is None else self._by_kind.get(kind, [])
        if kind not in self._checked:
            for row in found:
                if not row.keys() >= needed:
                    raise lacking(row, min(needed - row.keys()))
            self._checked.add(kind)
        return found

    def columns(self, fields: Sequence[str], kind: str | None, needed: frozenset[str]) -> list[list[Any]]:
        """Each field of the same rows, one list a field; None where a row has it not. Raises as `of` does."""
        rows = self.of(kind, needed)
        return [[row.get(field) for row in rows] for field in fields]

    def inner(self, field: str, needed: frozenset[str]) -> dict[str, list[Any]]:
        """Each field of the objects that all rows have in one of theirs, as a column; ABSENT where an object has it
        not. Raises as `of` does."""
        (objects,) = self.columns((field,), None, needed)
        names = dict.fromkeys(name for one in objects for name in one)
        return {name: [one.get(name, ABSENT) for one in objects] for name in names}
