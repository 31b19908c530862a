"""Intervals of shares, and of the difference of two shares."""

from __future__ import annotations

import math
from typing import NamedTuple

import scipy  # its functions take half a second to import, and do so when they are first asked

from spikeproof.errors import SpikeproofError
from spikeproof.metrics.summaries import Gap, Share

__all__ = ["Difference", "Interval", "clopper_pearson", "newcombe"]


class Interval(NamedTuple):
    """A share `correct / total` in [0,1] with the two ends of its confidence interval."""

    share: float
    low: float
    high: float
    correct: int
    total: int

    def __str__(self) -> str:
        """In percent.

        >>> str(Interval(0.5, 0.25, 0.75, 2, 4))
        '50.0 % [25.0, 75.0], n = 4'
        """
        return f"{100 * self.share:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}], n = {self.total}"

    def plain(self) -> Share:
        """As JSON holds it."""
        share, low, high, correct, total = self
        return {"share": share, "low": low, "high": high, "correct": correct, "total": total}


class Difference(NamedTuple):
    """One share less another, in [-1,1], with the two ends of its confidence interval."""

    gap: float
    low: float
    high: float

    def plain(self) -> Gap:
        """As JSON holds it."""
        return {"gap": self.gap, "low": self.low, "high": self.high}


def clopper_pearson(correct: int, total: int, level: float = 0.95) -> Interval:
    """The exact binomial interval: the shares that a two-sided test at 1 - `level` does not reject.

    It covers the true share with at least `level`, for any share and any total. Raises SpikeproofError where total is
    0, correct is not in 0..total, or level is not in (0,1). Source: Clopper and Pearson, Biometrika 26 (1934).

    >>> clopper_pearson(0, 100).high < 0.037
    True
    """
    if total < 1:
        raise SpikeproofError("at least one image", total, mend="evaluate some images")
    if not 0 <= correct <= total:
        raise SpikeproofError(f"a count of correct images in 0..{total}", correct)
    if not 0 < level < 1:
        raise SpikeproofError("a confidence level between 0 and 1", level, mend="0.95 is usual")
    tail = (1 - level) / 2  # of the beta distribution, whose quantile SciPy's `stats` takes a hundred times as long for
    low = 0.0 if correct == 0 else float(scipy.special.betaincinv(correct, total - correct + 1, tail))
    high = 1.0 if correct == total else float(scipy.special.betaincinv(correct + 1, total - correct, 1 - tail))
    return Interval(correct / total, low, high, correct, total)


def newcombe(one: Interval, other: Interval, level: float = 0.95) -> Difference:
    """`one` less `other`, shares of different images, with Newcombe's interval from the two scores of Wilson.

    Source: Newcombe, Statistics in Medicine 17 (1998), method 10. Raises SpikeproofError for a level outside (0,1).

    >>> found = newcombe(clopper_pearson(56, 70), clopper_pearson(48, 80))
    >>> [round(value, 4) for value in found]
    [0.2, 0.0524, 0.3339]
    """
    if not 0 < level < 1:
        raise SpikeproofError("a confidence level between 0 and 1", level, mend="0.95 is usual")
    z = float(scipy.special.ndtri((1 + level) / 2))
    (p, low_p, high_p), (q, low_q, high_q) = _wilson(one, z), _wilson(other, z)
    gap = p - q
    return Difference(gap, gap - math.hypot(p - low_p, high_q - q), gap + math.hypot(high_p - p, q - low_q))


def _wilson(found: Interval, z: float) -> tuple[float, float, float]:
    """The share and the two ends of its score interval (Wilson 1927)."""
    p, n = found.share, found.total
    middle, reach = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return p, max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)
