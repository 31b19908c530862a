"""What a study can decide, before it runs: by the rule of the page, from its configurations, and by simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spikeproof.metrics.association import associate
from spikeproof.metrics.multiple import LEVEL
from spikeproof.metrics.paired import crossed, flips
from spikeproof.metrics.resampling import ENOUGH, SEEDS, Estimate, Floats, draws
from spikeproof.report._claims import SHAPES
from spikeproof.report._design import design
from spikeproof.report._pairs import KINDS, both_pools
from spikeproof.report._summary import summarise
from spikeproof.report._text import counted
from spikeproof.report._tradeoff import GENERAL
from spikeproof.rows import GradientRow, HistoryRow, Row
from spikeproof.store.summary import Provenance

__all__ = ["Layout", "layout", "obstacles", "power_of_correlation", "power_of_pairs", "tables", "told"]

REPLICATES = 2000
"""Resamples in a simulated study: enough for a p of a twelfth of 5 %."""

SPREAD = {"seed": 0.02, "image": 0.15, "rest": 0.4}
"""Standard deviations of a difference between two networks on one image: of the seeds, of the images, and of what is
left; about those of `results/pooling-digits`, where the others drown that of the seeds and 0.02 is a careful guess.
"""


class Layout(NamedTuple):
    """What decides the power of a study: of each configuration its stratum and its unit (C,), what a unit is called,
    the pairs of pools by their weights at the start, seeds and attacked images; and whether a correlation has an
    interval at all, which it has not where an architecture has two or three configurations.
    """

    strata: NDArray[np.int64]
    units: tuple[str, ...]
    unit: str
    pairs: tuple[int, ...]
    seeds: int
    images: int
    ranked: bool = False

    @property
    def associated(self) -> int:
        """Claims that are correlations, where everything is measured."""
        return len(SHAPES) * (2 + len(GENERAL)) if self.ranked else 0

    @property
    def claims(self) -> int:
        """Claims that are corrected together."""
        return self.associated + (len(KINDS) if len(self.pairs) > 1 else 0)

    @property
    def blocks(self) -> int:
        """Independent differences between pools: one for each seed and architecture."""
        return self.seeds * len(set(self.pairs)) if len(self.pairs) > 1 else 0

    @property
    def hopeless(self) -> bool:
        """Whether no claim could have a verdict, whatever was found."""
        on_pools = self.blocks > 0 and 2.0 ** (1 - self.blocks) <= LEVEL
        return self.seeds < SEEDS or not (self.ranked or on_pools)


@dataclass(frozen=True)
class _Unrun:
    """A cell before it ran: a configuration without rows."""

    key: str
    config: dict[str, Any]
    folder: Path = Path()
    provenance: Provenance = field(default_factory=Provenance)

    def rows(self) -> list[Row]:
        return []

    def gradients(self) -> list[GradientRow]:
        return []

    def history(self) -> list[HistoryRow]:
        return []


def layout(configs: Sequence[Mapping[str, Any]], images: int) -> Layout:
    """Of the resolved configurations of a study's cells."""
    grid = design(summarise([_Unrun(str(n), dict(config)) for n, config in enumerate(configs)], None))
    unit, owners = grid.units(ENOUGH)
    starts = [grid.configurations[one].start for one, _ in both_pools(grid)]
    pairs = tuple(map(list(dict.fromkeys(starts)).index, starts))
    of = Layout(grid.strata("architecture"), tuple(map(str, owners)), unit, pairs, len(grid.seeds), images)
    return of._replace(ranked=_simulated(of, 0.0, np.random.default_rng(0), of.seeds, 0).tail is not None)


def told(of: Layout, cells: int) -> str:
    """How large a study is, in words."""
    sizes = counted(cells, "cell"), counted(len(of.units), "configuration"), counted(of.seeds, "seed")
    return f"{sizes[0]}: {sizes[1]}, {sizes[2]}, {of.images or 'all'} attacked images"


def obstacles(of: Layout) -> list[str]:
    """Why no data of this study could give a verdict: on correlations, and on pools; empty where some could."""
    found = []
    if of.seeds < SEEDS:
        return [f"{of.seeds} of the {SEEDS} seeds that an interval needs: no claim can be decided"]
    count = len(set(zip(of.strata.tolist(), of.units, strict=True)))
    if count < ENOUGH:
        found.append(f"no correlation can be decided: {count} {of.unit}, and fewer than {ENOUGH} are not resampled")
    elif not of.ranked:
        found.append(
            f"no correlation can be decided: with {len(of.units)} configurations in {len(set(of.strata.tolist()))} "
            "architectures too many resamples have none"
        )
    blocks = of.blocks
    if len(of.pairs) < 2:
        found.append(f"no claim on pools can be decided: {len(of.pairs)} pairs of max and average pool, of two or more")
    elif 2.0 ** (1 - blocks) > LEVEL / of.claims:
        need = next(n for n in range(of.seeds, 99) if 2.0 ** (1 - n * len(set(of.pairs))) <= LEVEL / of.claims)
        found.append(
            f"hardly any claim on pools can be decided: flips of {blocks} independent signs have a p of "
            f"{2.0 ** (1 - blocks):.2g} at least, and the first of {of.claims} claims needs {LEVEL / of.claims:.2g}: "
            f"{need} seeds"
        )
    return found


def tables(
    of: Layout, rho: float, generator: np.random.Generator, *, seeds: int, outcomes: int = 1
) -> tuple[Floats, list[Floats], Floats]:
    """A shape, some outcomes and a scale, each (S,C), as a study might give them.

    Each outcome has the correlation `rho` with the shape at fixed scale, and none with the scale at fixed shape; shape
    and scale go together with 0.5. Half of every variance belongs to the units, so that configurations of one unit are
    alike, and a new seed moves each number by half of a standard deviation.
    """
    size = len(of.units)
    place = np.unique(np.array(of.units), return_inverse=True)[1]

    def column() -> Floats:
        own, common = generator.normal(size=(2, size))
        return np.asarray(np.sqrt(0.5) * (own + common[place]), dtype=np.float64)

    def seen(values: Floats) -> Floats:
        return np.asarray(values + 0.5 * generator.normal(size=(seeds, size)), dtype=np.float64)

    z = column()
    rest = column()  # of the shape, at fixed scale
    shape = 0.5 * z + np.sqrt(0.75) * rest
    found = [seen(rho * rest + np.sqrt(1 - rho**2) * column()) for _ in range(outcomes)]
    return seen(shape), found, seen(z)


def power_of_correlation(of: Layout, rho: float, *, seeds: int, trials: int, seed: int = 0) -> float:
    """How often the claim on shape at fixed scale is decided on the right side, as the first of all claims."""
    generator = np.random.default_rng(seed)
    hits = 0
    for trial in range(trials):
        found = _simulated(of, rho, generator, seeds, trial)
        sides = [bounds.side for bounds in (found.over_seeds, found.over_units) if bounds is not None]
        hits += sides == [1, 1] and found.tail is not None and found.tail.p <= LEVEL / max(1, of.claims)
    return hits / trials


def _simulated(of: Layout, rho: float, generator: np.random.Generator, seeds: int, trial: int) -> Estimate:
    x, (y,), z = tables(of, rho, generator, seeds=seeds)
    drawn = draws(list(of.units), of.strata, seeds, replicates=REPLICATES, seed=trial)
    return associate(x, y, z, of.strata, drawn).shape


def power_of_pairs(of: Layout, difference: float, *, seeds: int, images: int, trials: int, seed: int = 0) -> float:
    """How often a difference of `difference` in a share is decided on the right side, as the first of all claims."""
    generator = np.random.default_rng(seed)
    each = [of.pairs.count(own) for own in dict.fromkeys(of.pairs)]
    hits = 0
    for _ in range(trials):
        luck = SPREAD["image"] * generator.normal(size=(1, images))
        blocks = [
            difference
            + SPREAD["seed"] * generator.normal(size=(seeds, 1))
            + luck
            + SPREAD["rest"] / pairs**0.5 * generator.normal(size=(seeds, images))
            for pairs in each
        ]
        bounds = crossed(np.average(blocks, axis=0, weights=each))
        signs = flips(np.concatenate([pairs * block.mean(1) for pairs, block in zip(each, blocks, strict=True)]))
        hits += bounds is not None and bounds.side == 1 and signs.p <= LEVEL / max(1, of.claims)
    return hits / trials
