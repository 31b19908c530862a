"""A grid of ones and zeros, events or none: what an event camera can be made to say, and nothing in between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from spikeproof.surfaces._grid import WholeEvents

__all__ = ["Events"]


@dataclass(frozen=True)
class Events(WholeEvents):
    """A point is a grid (B,T,2,H,W) of 0 and 1. Threats: flips, insert, delete, polarity, retime_b0, whose eps is a
    number of events; retime_binf and retime_b1, whose eps is a number of bins."""

    quantum: ClassVar[float] = 1.0
    holds: ClassVar[str] = "0 or 1, for the surface 'events'"
    mend: ClassVar[str] = "binary grids (data.binary: true), or the surface 'counts', or 'relaxed'"
