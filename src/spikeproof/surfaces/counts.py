"""A grid of counts of events, from 0 to 255 a cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from spikeproof.surfaces._grid import WholeEvents

__all__ = ["Counts"]


@dataclass(frozen=True)
class Counts(WholeEvents):
    """A point is a grid (B,T,2,H,W) of counts, each divided by 255. Threat: counts; its eps is a number of events."""

    quantum: ClassVar[float] = 1.0 / 255.0
    holds: ClassVar[str] = "a whole number of events, divided by 255, for the surface 'counts'"
    mend: ClassVar[str] = "grids of counts (data.binary: false), or the surface 'relaxed'"
