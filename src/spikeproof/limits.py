"""How large what comes from outside may be, said once; each limit is looked at before any work.

They stand far above what a study has needed and far below what stops a machine. What lies beyond is refused with the
limit, so that nobody has to guess whether a file is damaged, hostile or merely large.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from spikeproof.errors import UsageError

__all__ = [
    "CELLS", "ENTRIES", "HEADER_BYTES", "IMAGES_BYTES", "IMAGE_PIXELS", "NAME_BYTES", "NUMBER", "NUMBER_CHARACTERS",
    "PACKED_BYTES", "PACKED_VALUES", "RECORDING_BYTES", "STEPS", "TENSORS", "TEXT_CHARACTERS", "THREADS", "WIDTH",
    "YAML_CHARACTERS", "YAML_DEPTH", "YAML_EVENTS", "check_different", "check_name",
]  # fmt: skip

YAML_CHARACTERS = 200_000
"""Of a YAML file, with every alias written out."""

YAML_DEPTH = 32
"""Mappings and lists inside each other in a YAML file."""

YAML_EVENTS = 30_000
"""Texts, numbers, aliases, and beginnings and ends of mappings and lists in a YAML file."""

TEXT_CHARACTERS = 4096
"""Of a single text or number in a YAML file."""

NUMBER_CHARACTERS = 64
"""Of a budget that is written as text, such as 8/255."""

NUMBER = 1_000_000
"""The largest whole number in a configuration, but for a seed."""

STEPS = 10_000
"""Of a network."""

WIDTH = 256
"""Channels of a residual network's first stage, four times the usual: one of 50 layers then has 400 million weights."""

CELLS = 10_000
"""Of a study."""

ENTRIES = 1000
"""Of a list or mapping in a configuration: budgets, attacks, evaluations."""

NAME_BYTES = 200
"""Of a name, in UTF-8: with an ending, a temporary one too, it still is the name of a file (255)."""

PACKED_BYTES = 64_000_000
"""Of a packed cell, unpacked."""

PACKED_VALUES = 20_000_000
"""Of the rows of a packed cell: rows times fields."""

HEADER_BYTES = 10_000_000
"""Of the header of a file of weights."""

THREADS = 1024
"""Of torch: from some number on, the process ends where it asks for the memory of their stacks."""

TENSORS = 10_000
"""Of a file of weights."""

IMAGE_PIXELS = 4096 * 4096
"""Of one image."""

IMAGES_BYTES = 2_000_000_000
"""Of all images of a split, decoded."""

RECORDING_BYTES = 1_000_000_000
"""Of one file of events."""


def check_name(what: str, name: object) -> None:
    """UsageError unless it is 1..NAME_BYTES bytes of UTF-8, and no control character, which a terminal would obey."""
    wanted = f"{what} of 1 to {NAME_BYTES} bytes, without control characters"
    if not isinstance(name, str):
        raise UsageError(wanted, repr(name))
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise UsageError(wanted, f"half a character in {name[:40]!a}") from error
    if not 1 <= size <= NAME_BYTES:
        raise UsageError(wanted, f"{size} bytes, {name[:40]!a}", mend="choose a shorter name" if size else "")
    if any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in name):
        raise UsageError(wanted, ascii(name))


def check_different(what: str, values: Iterable[object]) -> None:
    """UsageError where a value comes twice."""
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise UsageError(f"different {what}", f"{value!r} twice")
        seen.add(value)
