"""Slack: how many more images would fall to the same attacks with eight times the passes?

The chance that an image falls is as large in one eightfold of the passes as in the next, or smaller: that is what the
estimate rests on, and what `benchmarks/tightness.py` holds against attackers who had eight times the passes. Of the n
images that still stood after an eighth of the passes, d fell in the rest; the share is then Beta(d + 1, n - d + 1), and
of those that stand at the end a beta-binomial number falls next.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import scipy  # its functions take half a second to import, and do so when they are first asked

from spikeproof.errors import SpikeproofError
from spikeproof.rows import AttackRow

__all__ = ["FORESEEN", "Falls", "falls", "foreseen"]

FORESEEN = 8
"""How many times the passes the attacker has who is foreseen."""


class Falls(NamedTuple):
    """Of one panel: images that stand at the end, that fell in all but the first eighth of the passes, and that there
    are, clean errors among them."""

    standing: int
    late: int
    images: int


def falls(rows: Iterable[AttackRow]) -> Falls:
    """Counted from a panel's rows at one budget, in the order in which they were written.

    An image's time is what was spent on it: forwards and backwards, until it fell. The whole time is the shortest of
    those that stand, for searches give some images up: the longest would call few falls late.
    """
    spent: dict[int, int] = {}
    fallen: set[int] = set()
    for row in rows:
        image = row["image"]
        if image not in fallen:
            spent[image] = spent.get(image, 0) + row["forwards"] + row["backwards"]
            if row["fooled"]:
                fallen.add(image)
    whole = min((passes for image, passes in spent.items() if image not in fallen), default=0)
    late = sum(FORESEEN * spent[image] > whole for image in fallen) if whole else 0
    return Falls(len(spent) - len(fallen), late, len(spent))


def foreseen(of: Falls, level: float = 0.95) -> tuple[float, int]:
    """How many more images fall with eight times the passes: the expected number and its one-sided upper end.

    SpikeproofError for a level outside (0,1).

    >>> foreseen(Falls(80, 0, 128))[1], foreseen(Falls(0, 40, 64))[1]
    (4, 0)
    """
    if not 0 < level < 1:
        raise SpikeproofError("a confidence level between 0 and 1", level, mend="0.95 is usual")
    if not of.standing:
        return 0.0, 0
    upper = _quantile(level, of.standing, of.late + 1, of.standing + 1)
    return of.standing * of.late / (of.standing + of.late), upper


def _quantile(level: float, n: int, a: int, b: int) -> int:
    """The least number of n that a beta-binomial one exceeds with a chance of at most 1 - level. SciPy's `stats` have
    it too, and take a second to import, in the first `evaluate` of every process."""
    k, log_beta = np.arange(n + 1), scipy.special.betaln
    chances = np.exp(log_beta(k + a, n - k + b) - log_beta(a, b) - log_beta(k + 1, n - k + 1) - np.log(n + 1))
    return min(int(np.searchsorted(chances.cumsum(), level)), n)
