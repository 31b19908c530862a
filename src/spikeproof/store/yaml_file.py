"""YAML that came from anywhere, as plain data: looked through for its size and depth before anything is made of it.

An alias takes four characters and stands for as much as one likes, another dozen of aliases too; so what counts is what
the file says with every alias written out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from spikeproof.errors import UsageError
from spikeproof.limits import TEXT_CHARACTERS, YAML_CHARACTERS, YAML_DEPTH, YAML_EVENTS

__all__ = ["DUMPER", "LOADER", "TooMuch", "load_yaml", "looked_through", "text_of"]

LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
"""In C ten times as fast, where PyYAML has it; a study opens a hundred of these."""

DUMPER = yaml.CSafeDumper if yaml.__with_libyaml__ else yaml.SafeDumper
"""In C likewise."""


def load_yaml(path: Path, what: str) -> Any:
    """What a YAML file says; UsageError, which names it, for what is none or exceeds `spikeproof.limits`."""
    text = text_of(path, what)
    try:
        return yaml.load(looked_through(text), LOADER)
    except Exception as error:  # whatever PyYAML makes of a wrong tag: 'month must be in 1..12', a KeyError
        raise UsageError(f"{what} in YAML at {path}", error) from error


def text_of(path: Path, what: str) -> str:
    """The text of a file, no more of which is read than YAML may have; UsageError, which names it, for what is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(YAML_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{what} in YAML at {path}", error) from error


def looked_through(text: str) -> str:
    """The same text; TooMuch, with the line, where it exceeds the limits or contains itself; YAMLError for no YAML."""
    if len(text) > YAML_CHARACTERS:
        raise TooMuch(f"more than {YAML_CHARACTERS} characters")
    size = 0
    around = [_Collection(None, 0)]
    known: dict[str | None, tuple[int, int]] = {}  # what is anchored: its characters and its depth, written out
    for number, event in enumerate(yaml.parse(text, LOADER)):
        if number > YAML_EVENTS:
            raise TooMuch(f"line {event.start_mark.line + 1}: more than {YAML_EVENTS} values and ends of values")
        if isinstance(event, yaml.CollectionStartEvent):
            around.append(_Collection(event.anchor, size))
            size += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            ended = around.pop()
            known[ended.anchor] = size - ended.before, ended.depth
            around[-1].hold(ended.depth)
        elif isinstance(event, yaml.ScalarEvent):
            known[event.anchor] = max(1, len(event.value)), 0
            size += known[event.anchor][0]
        elif isinstance(event, yaml.AliasEvent):
            if any(one.anchor == event.anchor for one in around):
                raise TooMuch(f"line {event.start_mark.line + 1}: a value that contains itself")
            more, depth = known.get(event.anchor, (0, 0))
            size += more
            around[-1].hold(depth)
        _check(event, size, len(around) - 2 + around[-1].depth)
    return text


@dataclass
class _Collection:
    """A mapping or list that has begun: its anchor, the characters before it, and its depth as far as it goes."""

    anchor: str | None
    before: int
    depth: int = 1

    def hold(self, depth: int) -> None:
        self.depth = max(self.depth, 1 + depth)


def _check(event: yaml.Event, size: int, depth: int) -> None:
    if isinstance(event, yaml.ScalarEvent) and len(event.value) > TEXT_CHARACTERS:
        found = f"more than {TEXT_CHARACTERS} characters in one text or number"
    elif size > YAML_CHARACTERS:
        found = f"more than {YAML_CHARACTERS} characters with every alias written out"
    elif depth > YAML_DEPTH:
        found = f"more than {YAML_DEPTH} mappings and lists inside each other"
    else:
        return
    raise TooMuch(f"line {event.start_mark.line + 1}: {found}")


class TooMuch(Exception):
    """YAML beyond the limits."""
