"""Rows as a table: what all rows of a kind say alike is there once, and the rest lies in columns.

    {"order": [[KIND, HOW MANY IN A ROW], ...], "kinds": [{FIELD: COLUMN}, ...]}   a kind: rows of the same fields
    COLUMN  [value, ...], or {"all": value} of equal ones, or {"each": {FIELD: COLUMN}} of objects of the same fields

A cell of a million rows is a gigabyte and more as a list of them, and some hundred MB so. Tables are made of rows that
come one by one, from a file of lines or another table; `store.packed` writes one as it stands.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice, repeat
from sys import intern
from typing import Any

from spikeproof.lines import ABSENT, Lines, lacking

__all__ = ["Table", "table_of"]

_NONE, _ABSENT = {"all": None}, {"all": ABSENT}


def table_of(rows: Iterable[Mapping[str, Any]]) -> Table:
    """The table of some rows, which are gone through once."""
    numbers: dict[tuple[str, ...], int] = {}
    growing: list[list[list[Any]]] = []
    order: list[list[int]] = []
    for row in rows:
        number = numbers.setdefault(tuple(row), len(numbers))
        if number == len(growing):
            growing.append([[] for _ in row])
        for column, value in zip(growing[number], row.values(), strict=True):
            column.append(_known(value))
        if order and order[-1][0] == number:
            order[-1][1] += 1
        else:
            order.append([number, 1])
    kinds = [
        {intern(field): _column(values) for field, values in zip(fields, growing[number], strict=True)}
        for fields, number in numbers.items()
    ]
    return Table({"order": order, "kinds": kinds})


def _known(value: Any) -> Any:
    """The same value; of equal texts one is kept, where each line of a file brought its own."""
    if type(value) is str:
        return intern(value)
    if type(value) is dict:
        return {intern(name): _known(inner) for name, inner in value.items()}
    return value


def _column(values: list[Any]) -> Any:
    if _alike(values):
        return {"all": values[0]}
    if all(isinstance(value, dict) for value in values) and len({tuple(value) for value in values}) == 1:
        return {"each": {field: _column([value[field] for value in values]) for field in values[0]}}
    return values


def _alike(values: list[Any]) -> bool:
    """Whether all are one value, as JSON writes it: 1, 1.0 and True are three, and so are 0.0 and -0.0."""
    first = values[0]
    if type(first) in (str, int, bool, type(None)):
        return all(type(value) is type(first) and value == first for value in values)
    text = json.dumps(first)
    return all(json.dumps(value) == text for value in values)


class Table(Lines[Any]):
    """The rows of a table; a column of it is read where it lies, and a row is made when it is asked for."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.tree = table
        self._order: Sequence[tuple[int, int]] = table["order"]
        self._kinds: Sequence[Mapping[str, Any]] = table["kinds"]

    @cached_property
    def _all(self) -> list[Any]:
        return self._rows(range(len(self._kinds)))

    def __len__(self) -> int:
        return sum(count for _, count in self._order)

    def __iter__(self) -> Iterator[Any]:
        """One by one, so that going through a million of them holds none."""
        each = [_each_object(columns, self._sizes[number]) for number, columns in enumerate(self._kinds)]
        return (row for number, count in self._order for row in islice(each[number], count))

    @cached_property
    def _named(self) -> dict[object, list[int]] | None:
        """Kind of row -> the numbers of its tables, which differ in optional fields; None where a table mixes kinds."""
        found: dict[object, list[int]] = {}
        for number, columns in enumerate(self._kinds):
            if "kind" not in columns:
                raise lacking(columns, "kind")
            if not (isinstance(columns["kind"], dict) and isinstance(name := columns["kind"].get("all"), str)):
                return None
            found.setdefault(name, []).append(number)
        return found

    @cached_property
    def _made(self) -> dict[tuple[str | None, str | None], list[Any]]:
        return {}

    def of(self, kind: str | None, needed: frozenset[str]) -> list[Any]:
        numbers = self._numbers(kind, needed)
        if kind is None or numbers is None:
            return super().of(kind, needed)
        if (kind, None) not in self._made:
            self._made[kind, None] = self._rows(numbers)
        return self._made[kind, None]

    def columns(self, fields: Sequence[str], kind: str | None, needed: frozenset[str]) -> list[list[Any]]:
        numbers = self._numbers(kind, needed)
        if numbers is None:
            return super().columns(fields, kind, needed)
        for field in fields:
            if (kind, field) not in self._made:
                self._made[kind, field] = self._column({n: self._kinds[n].get(field, _NONE) for n in numbers})
        return [self._made[kind, field] for field in fields]

    def inner(self, field: str, needed: frozenset[str]) -> dict[str, list[Any]]:
        self._numbers(None, needed)
        each = [columns[field] for columns in self._kinds]
        if not all(isinstance(column, dict) and "each" in column for column in each):
            return super().inner(field, needed)
        names = dict.fromkeys(name for column in each for name in column["each"])
        return {name: self._column({n: c["each"].get(name, _ABSENT) for n, c in enumerate(each)}) for name in names}

    def _numbers(self, kind: str | None, needed: frozenset[str]) -> Sequence[int] | None:
        """Of the tables of one kind, or of all; None where a table mixes kinds."""
        numbers: Sequence[int] | None = range(len(self._kinds))
        if kind is not None:
            numbers = None if self._named is None else self._named.get(kind, [])
        for number in numbers or ():
            if not self._kinds[number].keys() >= needed:
                raise lacking(self._kinds[number], min(needed - self._kinds[number].keys()))
        return numbers

    @cached_property
    def _sizes(self) -> list[int]:
        return [sum(count for kind, count in self._order if kind == number) for number in range(len(self._kinds))]

    def _rows(self, numbers: Sequence[int]) -> list[Any]:
        return self._in_order({number: _objects(self._kinds[number], self._sizes[number]) for number in numbers})

    def _column(self, some: Mapping[int, Any]) -> list[Any]:
        return self._in_order({number: _values(column, self._sizes[number]) for number, column in some.items()})

    def _in_order(self, some: Mapping[int, list[Any]]) -> list[Any]:
        """What lies in some of the tables, in the order in which it was written."""
        if len(some) == 1:
            return next(iter(some.values()))
        found, at = list[Any](), dict.fromkeys(some, 0)
        for number, count in self._order:
            if number in some:
                found += some[number][at[number] : at[number] + count]
                at[number] += count
        return found


def _each_object(columns: Mapping[str, Any], size: int) -> Iterator[dict[str, Any]]:
    """Objects from their columns, made one by one."""
    if not columns:
        return ({} for _ in range(size))
    each = [_each_value(column, size) for column in columns.values()]
    return (dict(zip(columns, row, strict=True)) for row in zip(*each, strict=True))


def _each_value(column: Any, size: int) -> Iterator[Any]:
    if isinstance(column, list):
        return iter(column)
    return repeat(column["all"], size) if "all" in column else _each_object(column["each"], size)


def _objects(columns: Mapping[str, Any], size: int) -> list[Any]:
    return list(_each_object(columns, size))


def _values(column: Any, size: int) -> list[Any]:
    return column if isinstance(column, list) else list(_each_value(column, size))
