"""The packed studies of this repository, each read and summarised once in a process."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

from spikeproof.report._summary import Headline, Summary, headline_of, summarise
from spikeproof.store.packed import PackedCell, packed_cells

__all__ = ["RESULTS", "Study", "study"]

RESULTS = Path(__file__).parent.parent / "results"


class Study(NamedTuple):
    """Its cells, their headline and their summaries; nothing of it is to be changed."""

    cells: list[PackedCell]
    headline: Headline | None
    found: list[Summary]


@cache
def study(name: str) -> Study:
    cells = packed_cells(RESULTS / name)
    headline = headline_of(cells)
    return Study(cells, headline, summarise(cells, headline))
