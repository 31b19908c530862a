"""Pairs on the same images: by how much two kinds of networks differ, over seeds and images, and tests that are exact.

An image is the same for every seed, so a difference has two sources that are crossed: other seeds would have given
other networks, other images other luck for all of them. With ten seeds and 200 images an interval that knows the seeds
alone holds the truth in 88 to 90 % of cases, the crossed one in 97 (`python -m benchmarks.statistics`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy  # its functions take half a second to import, and do so when they are first asked

from spikeproof.errors import SpikeproofError
from spikeproof.metrics._ranks import Floats
from spikeproof.metrics.resampling import SEEDS, Bounds

__all__ = ["EXACT", "Discordant", "Flips", "crossed", "flips", "mcnemar"]

EXACT = 16
"""Blocks up to which every one of the 2^n flips of signs is counted; beyond, 2^16 of them are drawn."""

_ALIKE = 1e-12


class Flips(NamedTuple):
    """A two-sided test of signs that are flipped: its p, the least p that so many `blocks` can give, and the Monte
    Carlo standard error of p, 0 where every flip was counted."""

    p: float
    least: float
    blocks: int
    error: float


class Discordant(NamedTuple):
    """Images on which `first` alone is right, on which `second` alone is, and the two-sided p of McNemar's test."""

    first: int
    second: int
    p: float


def crossed(table: Floats) -> Bounds | None:
    """The 95 % interval of the mean of (S,N), a row a seed and a column an image; None for fewer than `SEEDS` rows.

    The variances of the seeds' means over S and of the images' means over N, added, with Satterthwaite's degrees of
    freedom. What is left in each single number is in both, so it is counted twice: it covers 95 to 98 % at 3, 5 and
    10 seeds where images matter as they do in `results/pooling-digits`; where seeds alone do, 94 % with three normal
    ones, 90 % with such as crowd at two ends. A bootstrap of both would not do with so few seeds, which it
    underestimates by (S-1)/S. With one column it is Student's.

    >>> from spikeproof.metrics.resampling import student
    >>> one, other = crossed(np.array([[0.1], [0.2], [0.3]])).low, student(np.array([0.1, 0.2, 0.3])).low
    >>> abs(one - other) < 1e-12
    True
    """
    seeds, images = table.shape
    if seeds < SEEDS:
        return None
    of_seeds = float(np.var(table.mean(1), ddof=1)) / seeds
    of_images = float(np.var(table.mean(0), ddof=1)) / images if images > 1 else 0.0
    middle, both = float(table.mean()), of_seeds + of_images
    if both < _ALIKE**2:
        return Bounds(middle, middle)
    freedom = both**2 / (of_seeds**2 / (seeds - 1) + (of_images**2 / (images - 1) if images > 1 else 0.0))
    reach = float(scipy.special.stdtrit(freedom, 0.975)) * both**0.5
    return Bounds(middle - reach, middle + reach)


def flips(blocks: Floats) -> Flips:
    """Could the mean of these differences (B,), one a block, be as far from 0 if each had either sign by chance?

    Exact under the null that the two sides of a pair are exchangeable: if the pool changes nothing, which of two
    networks is called max is a label. A block is what shares its luck, so that its differences turn round together.
    SpikeproofError for no block. Source: Fisher, The Design of Experiments (1935), section 21.

    >>> flips(np.array([1.0, 2.0, 3.0, 4.0, 5.0])).p
    0.0625
    """
    count = len(blocks)
    if not count:
        raise SpikeproofError("at least one difference", "none")
    exact = count <= EXACT
    if exact:
        signs = 1.0 - 2.0 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)
    else:
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (2**EXACT, count))
    beyond = np.abs(signs @ blocks) >= abs(float(blocks.sum())) * (1 - 1e-9) - _ALIKE
    # A sample of flips holds the one that was seen, so that no p is 0 (Phipson and Smyth 2010).
    p = float(beyond.mean()) if exact else (1 + float(beyond.sum())) / (1 + len(beyond))
    error = 0.0 if exact else (p * (1 - p) / len(beyond)) ** 0.5
    return Flips(p, 2.0 ** (1 - count), count, error)


def mcnemar(first: int, second: int) -> Discordant:
    """Two networks on the same images: `first` and `second` count those that only one of them gets right.

    Exact: under the null a discordant image falls to either side with one half. Those that both get right, or both
    wrong, say nothing of which is better. SpikeproofError for a negative count. Source: McNemar, Psychometrika 12
    (1947), with the binomial distribution in place of its limit.

    >>> round(mcnemar(0, 12).p, 4), mcnemar(0, 0).p
    (0.0005, 1.0)
    """
    if min(first, second) < 0:
        raise SpikeproofError("counts of images", f"{first} and {second}")
    below = float(scipy.special.bdtr(min(first, second), first + second, 0.5))
    return Discordant(first, second, min(1.0, 2 * below))
