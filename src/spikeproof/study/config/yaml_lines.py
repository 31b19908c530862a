"""YAML with the line of every key, so that what is wrong in a file is named by its line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from spikeproof.errors import UsageError
from spikeproof.store.yaml_file import LOADER, looked_through, text_of

__all__ = ["Keys", "Lines", "line_of", "read_yaml", "yaml_of"]

Keys: TypeAlias = tuple[str | int, ...]
"""The keys that lead to a value, outermost first; a number is a place in a list."""

Lines: TypeAlias = Mapping[Keys, int]
"""The line, from 1, of every key of a file."""


def read_yaml(path: Path, what: str) -> tuple[Any, Lines]:
    """What a YAML file says, as plain data, and its lines.

    Raises UsageError, which names the file, for what is not YAML, and for a key that comes twice in a mapping: YAML
    itself keeps the last and forgets the others without a word; and for what exceeds `spikeproof.limits`.
    """
    return yaml_of(text_of(path, what), f"{what} in YAML at {path}")


def yaml_of(text: str, what: str) -> tuple[Any, Lines]:
    """The same of a text; what: how it is called where it is refused."""
    try:
        loader = LOADER(looked_through(text))
        node = loader.get_single_node()
        lines: dict[Keys, int] = {}
        if node is not None:
            _walk(node, (), lines)
        return (None if node is None else loader.construct_document(node)), lines
    except Exception as error:  # whatever PyYAML makes of a wrong tag: 'month must be in 1..12', a KeyError
        raise UsageError(what, error) from error


class _Twice(Exception):
    """A key that comes twice."""


def _walk(node: yaml.Node, keys: Keys, lines: dict[Keys, int]) -> None:
    lines.setdefault(keys, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in seen and name != "<<":
                raise _Twice(f"line {line}: {name!r} for the second time, after line {seen[name]}")
            seen[name] = line
            lines[*keys, name] = line
            _walk(value, (*keys, name), lines)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            _walk(value, (*keys, number), lines)


def line_of(lines: Lines, keys: Keys) -> int:
    """The line of the deepest of these keys that the file has."""
    return next((lines[keys[:n]] for n in range(len(keys), -1, -1) if keys[:n] in lines), 1)
