"""The Pareto front: who is better than everyone else at one thing at least, and how sure that is over seeds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spikeproof.errors import SpikeproofError
from spikeproof.metrics._ranks import Floats
from spikeproof.metrics.resampling import SEEDS

__all__ = ["chances", "front"]


def front(points: Floats) -> NDArray[np.bool_]:
    """(...,C,K), larger is better in all K -> (...,C): which points no other beats, being at least as good in
    everything and better in something. Equal points are on the front together.

    >>> front(np.array([[0.9, 0.1], [0.8, 0.5], [0.7, 0.4]])).tolist()
    [True, True, False]
    """
    columns = [points[..., k] for k in range(points.shape[-1])]  # in turn: a reduction over a short axis is slow
    sides = [(column[..., :, None], column[..., None, :]) for column in columns]
    no_worse = np.logical_and.reduce([other >= mine for mine, other in sides])
    beaten = no_worse & np.logical_or.reduce([other > mine for mine, other in sides])
    return np.asarray(~beaten.any(-1), dtype=np.bool_)


def chances(points: Floats, *, replicates: int, seed: int) -> Floats:
    """(S,C,K), one row for each seed -> (C,): how often each configuration's mean is on the front of a resample.

    The multiplier bootstrap over whole seeds: a seed's departure from the mean gets one random factor for all
    configurations, so what they have in common stays so. The sum is scaled so that every mean is drawn from Student's
    distribution about it, as its interval is; drawing seeds with replacement would pretend to know more than a few
    seeds can tell. Raises SpikeproofError for fewer than three seeds or a value that is not finite.
    """
    seeds = len(points)
    if seeds < SEEDS or not np.isfinite(points).all():
        raise SpikeproofError(f"{SEEDS} seeds or more with finite values", f"{seeds} seeds")
    generator = np.random.default_rng(seed)
    middle = points.mean(0)
    factors = generator.standard_normal((replicates, seeds))
    spread = np.sqrt(generator.chisquare(seeds - 1, replicates) / (seeds - 1))
    moves = np.einsum("bs,sck->bck", factors, points - middle) / np.sqrt(seeds * (seeds - 1))
    return np.asarray(front(middle + moves / spread[:, None, None]).mean(0), dtype=np.float64)
