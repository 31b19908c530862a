"""Rows made by hand: what a test does not care for is filled in, and nothing that no row has can be put in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args, get_type_hints

from spikeproof import rows

__all__ = ["held", "made"]

_KINDS = {get_args(get_type_hints(kind)["kind"])[0]: kind for kind in get_args(rows.Row)}
_PLAIN: dict[Any, Any] = {int: 0, float: 0.5, str: "some", bool: False}


def made(kind: str, *, damaged: bool = False, **given: Any) -> dict[str, Any]:
    """A row of this kind. damaged: with a value that no row has, for a test of its refusal."""
    hints = get_type_hints(_KINDS[kind])
    needed = _KINDS[kind].__required_keys__ - given.keys() - {"kind"}
    row = {"kind": kind, **{name: _filled(hints[name]) for name in sorted(needed)}, **given}
    assert damaged or rows.fault(row) is None, rows.fault(row)
    return row


def held(rows_made: Iterable[Any]) -> list[Any]:
    """The same rows; one of each shape is held against its type."""
    known = list(rows_made)
    for row in {(*row, *map(type, row.values())): row for row in known}.values():
        assert (what := rows.fault(row)) is None, f"{what}: {row}"
    return known


def _filled(hint: Any) -> Any:
    choices = get_args(hint)
    if hint in _PLAIN:
        return _PLAIN[hint]
    return choices[0] if choices and isinstance(choices[0], str) else {} if choices in ((), (str, object)) else None
