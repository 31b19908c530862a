"""Several claims on one page: p values that are corrected so that any false verdict among them is as rare as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spikeproof.errors import SpikeproofError

__all__ = ["LEVEL", "holm", "levels"]

LEVEL = 0.05
"""Chance of one false verdict or more among all claims of a page, where nothing goes with anything."""


def holm(p: Sequence[float]) -> list[float]:
    """p corrected by Holm's method, in the order given: each times the number of those that are not smaller, never
    below the one before. Valid however the tests hang together. SpikeproofError for a p outside [0,1].

    Source: Holm, Scandinavian Journal of Statistics 6 (1979).

    >>> [round(one, 2) for one in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    if not all(0 <= one <= 1 for one in p):
        raise SpikeproofError("p values in [0,1]", list(p))
    order = np.argsort(p, kind="stable")
    scaled = [min(1.0, (len(p) - rank) * p[place]) for rank, place in enumerate(order)]
    corrected = [0.0] * len(p)
    for place, value in zip(order, np.maximum.accumulate(scaled), strict=True):
        corrected[int(place)] = float(value)
    return corrected


def levels(p: Sequence[float]) -> list[float]:
    """What each p is held against in Holm's method: `LEVEL` over the number of those that are not smaller; once one
    fails, all larger ones against what it failed. So a p is at most its level where, and only where, `holm` is at most
    `LEVEL`.

    >>> [round(one, 4) for one in levels([0.01, 0.03, 0.04])], [round(one, 4) for one in levels([0.01, 0.02, 0.04])]
    ([0.0167, 0.025, 0.025], [0.0167, 0.025, 0.05])
    """
    held, failed = [0.0] * len(p), False
    limit = LEVEL
    for rank, place in enumerate(np.argsort(p, kind="stable")):
        if not failed:
            limit = LEVEL / (len(p) - rank)
            failed = p[int(place)] > limit
        held[int(place)] = limit
    return held
