"""The sections of the page, one a file, each found by its file.

A file has `PLACE`, where its section stands among the others (ascending); `FIGURES`, the names of the figures that it
may draw, if any; and `section`, which makes of the findings a Section, or None where nothing was measured. Its name,
with '-' for '_', is the anchor of the section. Files that begin with '_' are none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import NamedTuple

from spikeproof.report._blocks import Section
from spikeproof.report._findings import Findings

__all__ = ["Source", "sources"]


class Source(NamedTuple):
    """What one file says."""

    place: int
    anchor: str
    section: Callable[[Findings], Section | None]
    figures: tuple[str, ...]


def sources() -> list[Source]:
    """Every section's, in the order of the page."""
    return sorted(_found())


def _found() -> Iterator[Source]:
    for module in iter_modules(__path__):
        if not module.name.startswith("_"):
            said = vars(import_module(f"{__name__}.{module.name}"))
            figures = tuple(said.get("FIGURES", ()))
            yield Source(said["PLACE"], module.name.replace("_", "-"), said["section"], figures)
