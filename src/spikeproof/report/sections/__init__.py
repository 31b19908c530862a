"""The sections of the page, one a file, each found by its file.

A file has `PLACE`, where its section stands among the others (ascending), its hundreds the chapter: below 100 it stands
before all of them, from 100 under the first question of `CHAPTERS`, and so on; `FIGURES`, the names of the figures that
it may draw, if any; and `section`, which makes of the findings a Section, or None where nothing was measured. Its name,
with '-' for '_', is the anchor of the section. Files that begin with '_' are none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import NamedTuple

from spikeproof.report._blocks import Section
from spikeproof.report._findings import Findings

__all__ = ["CHAPTERS", "Source", "sources"]

CHAPTERS = ("How robust?", "How sure?", "How sparse?", "What goes with what?", "How was it made?")
"""The questions of a reader, in the order of the page."""


class Source(NamedTuple):
    """What one file says."""

    place: int
    anchor: str
    section: Callable[[Findings], Section | None]
    figures: tuple[str, ...]

    @property
    def chapter(self) -> int | None:
        """Which of `CHAPTERS` it belongs to; None before all of them."""
        return self.place // 100 - 1 if self.place >= 100 else None


def sources() -> list[Source]:
    """Every section's, in the order of the page."""
    return sorted(_found())


def _found() -> Iterator[Source]:
    for module in iter_modules(__path__):
        if not module.name.startswith("_"):
            said = vars(import_module(f"{__name__}.{module.name}"))
            figures = tuple(said.get("FIGURES", ()))
            yield Source(said["PLACE"], module.name.replace("_", "-"), said["section"], figures)
