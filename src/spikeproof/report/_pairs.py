"""Max against average pooling in pairs: networks that differ in nothing else, of one seed, on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from spikeproof.metrics.paired import Flips, crossed, flips
from spikeproof.metrics.resampling import NOTHING, Estimate, Floats
from spikeproof.report._claims import SHAPES, Question
from spikeproof.report._design import MEASURES, SITES, Design, by_image

__all__ = ["KINDS", "Pair", "asked", "both_pools", "pairs_of"]

_SHAPES = {" ".join(place): f"{MEASURES[place[1]].name} {SITES[place[0]]}" for place in SHAPES}

KINDS = {**_SHAPES, "robust": "robust accuracy", "clean": "clean test accuracy"}
"""What is compared in pairs, and its words."""


class Pair(NamedTuple):
    """Max less average pool in one of `KINDS`, over the configurations of one group that have both. The interval over
    seeds is one over images too; `flips` is None where no seed has all of them."""

    kind: str
    group: str | None
    estimate: Estimate
    flips: Flips | None


def both_pools(grid: Design) -> list[tuple[int, int]]:
    """Places of the configurations with max and with average pool that have all else in common."""
    by_rest: dict[str, dict[str, int]] = {}
    for place, configuration in enumerate(grid.configurations):
        by_rest.setdefault(configuration.rest, {})[configuration.pool] = place
    return [(of["max"], of["avg"]) for of in by_rest.values() if {"max", "avg"} <= of.keys()]


def pairs_of(grid: Design) -> list[Pair]:
    """Over all pairs, then over those of one architecture, and over those of one defence, where there are several."""
    both = both_pools(grid)
    groups: dict[str | None, list[tuple[int, int]]] = {None: both}
    for pair in both:
        own = grid.configurations[pair[0]]
        for name in (grid.architectures[own.architecture], own.defence):
            groups.setdefault(name, []).append(pair)
    some = {name: pairs for name, pairs in groups.items() if pairs and (name is None or len(pairs) < len(both))}
    return [_pair(grid, kind, name, pairs) for kind in KINDS for name, pairs in some.items()]


def _pair(grid: Design, kind: str, group: str | None, pairs: Sequence[tuple[int, int]]) -> Pair:
    """A seed that lacks one of the networks is left out, because the mean over other pairs would be another number."""
    table, seeds = _differences(grid, kind, pairs)
    if not len(seeds):
        return Pair(kind, group, NOTHING._replace(points=len(pairs)), None)
    means = table.mean(2)
    starts = [grid.configurations[one].start for one, _ in pairs]
    # Networks of one seed and architecture begin with the same weights, so their differences turn round together.
    blocks = [means[[start == own for start in starts]].sum(0) for own in dict.fromkeys(starts)]
    estimate = Estimate(float(table.mean()), crossed(table.mean(0)), None, len(seeds), len(pairs))
    return Pair(kind, group, estimate, flips(np.concatenate(blocks)))


def _differences(grid: Design, kind: str, pairs: Sequence[tuple[int, int]]) -> tuple[Floats, list[int]]:
    """(P,S,N): of each pair, seed and image that all of them have, the first less the second; and the seeds."""
    value = by_image(kind)
    found = {place: value(cell) for place, cell in grid.cells.items()}
    needed = [place for pair in pairs for place in pair]
    seeds = [s for s in range(len(grid.seeds)) if all(found.get((s, place)) for place in needed)]
    shared = set.intersection(*(set(found[s, place]) for s in seeds for place in needed)) if seeds else set()
    if not shared:
        return np.empty((len(pairs), 0, 0)), []

    def column(seed: int, place: int) -> list[float]:
        return [found[seed, place][image] for image in sorted(shared)]

    of = [[np.subtract(column(s, one), column(s, other)) for s in seeds] for one, other in pairs]
    return np.array(of, dtype=np.float64), seeds


def asked(pairs: Sequence[Pair]) -> list[Question]:
    """The claims on max and average pooling; none on what was not measured in any pair, but sparsity and robustness."""
    over_all = {pair.kind: pair for pair in pairs if pair.group is None}
    kinds: list[tuple[Literal["sparsity", "robustness", "generalisation"], str, str, int]] = [
        *(("sparsity", "sparser", " ".join(place), 1) for place in SHAPES),
        ("robustness", "more robust", "robust", 1),
        ("generalisation", "less accurate on clean inputs", "clean", -1),
    ]
    nothing = "no two networks differ in nothing but the pool"
    questions = []
    for about, words, kind, sign in kinds:
        pair = over_all.get(kind)
        if (pair is None or pair.flips is None) and kind in (" ".join(SHAPES[1]), "clean"):
            continue
        found = NOTHING if pair is None else pair.estimate
        questions.append(
            Question(
                about, f"Max pooling is {words} than average pooling", KINDS[kind],
                f"{KINDS[kind]} with max pool less that with average pool, all else the same; mean over {found.points} "
                "pairs",
                sign, found, nothing if pair is None else "not measured in pairs",
                paired=True, flips=None if pair is None else pair.flips,
            )
        )  # fmt: skip
    return questions
