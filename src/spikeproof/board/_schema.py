"""A value held against a JSON Schema: the words that `entry.schema.json` uses, and no others.

A library for it would bring five packages for what is a screen of code here, and would not say which field it was in
one sentence. It decides as such a library does, but that a whole number is written as one, 1 and not 1.0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final, NamedTuple

__all__ = ["Fault", "fault", "schema"]

_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float),
    "null": type(None),
}  # fmt: skip

_SAYS_NOTHING = {"$schema", "$id", "$defs", "title", "description"}


class Fault(NamedTuple):
    """Where a value does not fit, and what is wrong there."""

    field: str
    says: str


@cache
def schema() -> Mapping[str, Any]:
    """That of an entry, as the package brings it."""
    found: dict[str, Any] = json.loads(files("spikeproof.board").joinpath("entry.schema.json").read_bytes())
    return found


def fault(value: object, of: Mapping[str, Any]) -> Fault | None:
    """The first thing in which a value read from JSON does not fit a schema; None where it fits.

    >>> fault({"n": [1, "2"]}, {"properties": {"n": {"items": {"type": "integer"}}}})
    Fault(field='n[1]', says="'2', which is no integer")
    """
    return next(_faults(value, of, of, ""), None)


def _faults(value: Any, rule: Mapping[str, Any], whole: Mapping[str, Any], field: str) -> Iterator[Fault]:
    for word, wanted in rule.items():
        if word == "$ref":
            yield from _faults(value, whole["$defs"][wanted.rpartition("/")[2]], whole, field)
        elif word == "anyOf":
            found = [[*_faults(value, one, whole, field)] for one in wanted]
            if all(found):
                yield max((faults[0] for faults in found), key=lambda one: len(one.field))  # the one that came furthest
        elif word in _INSIDE:
            for inner, item, place in _INSIDE[word](value, wanted, rule, field):
                yield from _faults(item, inner, whole, place)
        elif word not in _SAYS_NOTHING and (says := _SAYS[word](value, wanted, rule)):
            yield Fault(field or "the entry", says)


def _shown(value: object) -> str:
    return ascii(value)[:80]


def _type(value: object, wanted: Any, _: Mapping[str, Any]) -> str | None:
    kinds = [wanted] if isinstance(wanted, str) else wanted
    for kind in kinds:
        if isinstance(value, _TYPES[kind]) and (kind == "boolean") >= isinstance(value, bool):
            return None
    return f"{_shown(value)}, which is no {' or '.join(kinds)}"


def _required(value: object, wanted: Any, _: Mapping[str, Any]) -> str | None:
    missing = [name for name in wanted if name not in value] if isinstance(value, dict) else []
    return f"no {missing[0]}" if missing else None


def _unknown(value: object, wanted: Any, rule: Mapping[str, Any]) -> str | None:
    assert wanted is False
    foreign = sorted(value.keys() - rule["properties"].keys()) if isinstance(value, dict) else []
    return f"an unknown field {_shown(foreign[0])}" if foreign else None


def _chosen(value: object, wanted: Any, _: Mapping[str, Any]) -> str | None:
    return (
        None
        if any(value == one and type(value) is type(one) for one in wanted)
        else f"{_shown(value)}; valid: {', '.join(map(str, wanted))}"
    )


def _const(value: object, wanted: Any, rule: Mapping[str, Any]) -> str | None:
    return _chosen(value, [wanted], rule)


def _bound(wrong: Callable[[Any, Any], bool], kind: type | tuple[type, ...], words: str) -> Callable[..., str | None]:
    """A limit on a number, a text or a list; of another kind of value it says nothing."""

    def says(value: Any, wanted: Any, _: Mapping[str, Any]) -> str | None:
        applies = isinstance(value, kind) and not isinstance(value, bool)
        return f"{_shown(value)}, {words} {wanted}" if applies and wrong(value, wanted) else None

    return says


def _pattern(value: object, wanted: str, _: Mapping[str, Any]) -> str | None:
    # '$' of a schema is the end of the text, of Python also the place before a last line break.
    fits = not isinstance(value, str) or re.fullmatch(wanted.removeprefix("^").removesuffix("$"), value)
    return None if fits else f"{_shown(value)}, which is not as {wanted}"


_Inside = Iterator[tuple[Mapping[str, Any], Any, str]]


def _properties(value: object, wanted: Mapping[str, Any], _: Mapping[str, Any], field: str) -> _Inside:
    if isinstance(value, dict):
        yield from ((one, value[name], f"{field}.{name}".lstrip(".")) for name, one in wanted.items() if name in value)


def _items(value: object, wanted: Mapping[str, Any], _: Mapping[str, Any], field: str) -> _Inside:
    if isinstance(value, list):
        yield from ((wanted, item, f"{field}[{number}]") for number, item in enumerate(value))


_INSIDE: Final[dict[str, Callable[..., _Inside]]] = {"properties": _properties, "items": _items}

_NUMBER = (int, float)
_SAYS: Final[dict[str, Callable[..., str | None]]] = {
    "type": _type, "const": _const, "enum": _chosen, "required": _required, "additionalProperties": _unknown,
    "pattern": _pattern,
    "minimum": _bound(lambda value, least: not value >= least, _NUMBER, "less than"),
    "maximum": _bound(lambda value, most: not value <= most, _NUMBER, "more than"),
    "minLength": _bound(lambda text, least: len(text) < least, str, "of fewer letters than"),
    "maxLength": _bound(lambda text, most: len(text) > most, str, "of more letters than"),
    "minItems": _bound(lambda items, least: len(items) < least, list, "of fewer members than"),
    "maxItems": _bound(lambda items, most: len(items) > most, list, "of more members than"),
}  # fmt: skip
