"""What the study says of the trade-off: claims with verdicts, correlations with intervals, fronts with chances.

Numbers only: `_claims` has the rule, `_tradeoff_figures` draws, `_tradeoff_text` words it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from spikeproof.metrics.association import Association, associate
from spikeproof.metrics.pareto import chances, front
from spikeproof.metrics.resampling import (
    ENOUGH,
    NOTHING,
    SEEDS,
    Bounds,
    Draws,
    Estimate,
    Floats,
    draws,
    estimate,
    student,
)
from spikeproof.report._claims import (
    MANY,
    REPLICATES,
    SCALE,
    SEED,
    SHAPE,
    UNDECIDED,
    Claim,
    decide,
    leads,
    unless_apart,
)
from spikeproof.report._design import MEASURES, OUTCOMES, SITES, Configuration, Design, design, measured
from spikeproof.report._summary import Summary

__all__ = ["POOLED", "Answers", "Found", "Front", "Mark", "Pair", "Variant", "answer", "lacking"]

POOLED = "all architectures"


class Found(NamedTuple):
    """How one outcome goes with one measure, over `group`: all architectures, or one."""

    group: str
    outcome: str
    site: str
    metric: str
    association: Association


class Variant(NamedTuple):
    """The primary correlations taken in another way."""

    says: str
    robust: Association
    clean: Association


class Mark(NamedTuple):
    """A configuration on the plane of clean and robust accuracy: means over seeds in [0,1] and Student's intervals.

    `chance` is the share of resamples in which it is on the front.
    """

    configuration: Configuration
    clean: float
    robust: float
    over_clean: Bounds
    over_robust: Bounds
    on_front: bool
    chance: float
    bound: bool


class Front(NamedTuple):
    """The configurations of one architecture that were measured with every seed; `absent` are how many others."""

    architecture: str
    marks: list[Mark]
    absent: int


class Pair(NamedTuple):
    """Max less average pool, over the configurations of one kind that have both, with the same seed."""

    says: str
    estimate: Estimate


@dataclass(frozen=True)
class Answers:
    """Everything that the section of the page shows. `unit` is what the intervals over configurations resample;
    `bounds` counts networks with an unsettled robust accuracy among the `robust` that have one."""

    design: Design
    unit: str
    claims: list[Claim]
    found: list[Found]
    variants: list[Variant]
    fronts: list[Front]
    pairs: list[Pair]
    bounds: int
    robust: int

    def of(self, group: str, outcome: str, place: tuple[str, str]) -> Association | None:
        """One of the correlations; None where the measure was not taken."""
        for one in self.found:
            if (one.group, one.outcome, (one.site, one.metric)) == (group, outcome, place):
                return one.association
        return None

    @property
    def cautious(self) -> bool:
        return self.robust > 0 and self.bounds >= MANY * self.robust


def answer(cells: Sequence[Summary]) -> Answers | None:
    """The answers of a study; None where it is too small for any of them (see `lacking`)."""
    grid = design(cells)
    if not _enough(grid):
        return None
    unit, owners = grid.units(ENOUGH)
    drawn = draws(owners, grid.strata("architecture"), max(1, len(grid.seeds)), replicates=REPLICATES, seed=SEED)
    found = _correlations(grid, drawn)
    pairs = _pairs(grid)
    robust = [cell for cell in grid.cells.values() if OUTCOMES["robust"][1](cell) is not None]
    return Answers(
        design=grid,
        unit=unit,
        claims=[*_associated(found, grid, unit), *_pooling(pairs)],
        found=found,
        variants=_variants(grid, owners),
        fronts=[front for place in range(len(grid.architectures)) if (front := _front(grid, place)) is not None],
        pairs=pairs,
        bounds=sum(cell.bound for cell in robust),
        robust=len(robust),
    )


def lacking(cells: Sequence[Summary]) -> str:
    """What a study has of what the section needs."""
    grid = design(cells)
    return f"{len(grid.configurations)} of {ENOUGH} configurations, {len(grid.seeds)} of {SEEDS} seeds"


def _enough(grid: Design) -> bool:
    """Six configurations are a correlation, two with three seeds a comparison."""
    filled = np.isfinite(grid.table(lambda _: 1.0))
    return bool((filled.sum(1) >= ENOUGH).any() or (filled.sum(0) >= SEEDS).sum() >= 2)


def _correlations(grid: Design, drawn: Draws | None) -> list[Found]:
    """Every outcome with every measure, over all architectures by rank within each, and in each alone."""
    strata = grid.strata("architecture")
    scale = grid.table(measured(*SCALE))
    outcomes = {name: grid.table(value) for name, (_, value) in OUTCOMES.items()}
    groups = {POOLED: np.ones(len(strata), dtype=bool)}
    if len(grid.architectures) > 1:
        groups |= {name: strata == place for place, name in enumerate(grid.architectures)}
    found = []
    for site in SITES:
        for metric in MEASURES:
            shape = grid.table(measured(site, metric))
            for outcome, values in outcomes.items():
                if not (np.isfinite(shape) & np.isfinite(values)).any():
                    continue
                for group, inside in groups.items():
                    x, y, z = (table[:, inside] for table in (shape, values, scale))
                    some = None if drawn is None else Draws(drawn.units[:, inside], drawn.seeds)
                    found.append(Found(group, outcome, site, metric, associate(x, y, z, strata[inside], some)))
    return found


def _variants(grid: Design, owners: Sequence[object]) -> list[Variant]:
    """Would the primary correlations be others if something else were held fixed, or bounds left out?"""
    ways: list[tuple[str, tuple[str, ...], Callable[[Summary], bool]]] = [
        ("as above", ("architecture",), lambda _: True),
        ("within each pooling too", ("architecture", "pool"), lambda _: True),
        ("within each defence, as its knobs turn", ("architecture", "defence"), lambda _: True),
        ("within one surrogate, neuron and number of steps", ("architecture", "slope"), lambda _: True),
        ("without unsettled robust accuracies", ("architecture",), lambda cell: not cell.bound),
    ]
    found = []
    for says, fields, keep in ways:
        some, strata = grid.kept(keep), grid.strata(*fields)
        if len(set(strata.tolist())) == len(strata):
            continue  # nothing is left to compare inside a stratum
        # Inside a defence there is nothing but its configurations to resample.
        units = list(range(len(strata))) if "defence" in fields else [str(owner) for owner in owners]
        drawn = draws(units, strata, len(grid.seeds), replicates=REPLICATES, seed=SEED)
        x, z = some.table(measured(*SHAPE)), some.table(measured(*SCALE))
        of = (associate(x, some.table(OUTCOMES[name][1]), z, strata, drawn) for name in ("robust", "clean"))
        found.append(Variant(says, *of))
    return found


def _associated(found: Sequence[Found], grid: Design, unit: str) -> list[Claim]:
    """The three claims that are correlations."""

    def of(group: str, outcome: str) -> Association:
        for one in found:
            if (one.group, one.outcome, (one.site, one.metric)) == (group, outcome, SHAPE):
                return one.association
        return Association(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING)

    robust, clean = of(POOLED, "robust"), of(POOLED, "clean")
    each = list(grid.architectures) if len(grid.architectures) > 1 else []
    of_robust = _missing(robust, grid, "robust", held=True)
    sparser = unless_apart(
        decide(robust.shape, 1, unit, of_robust),
        [decide(of(name, "robust").shape, 1, unit, "")[0] for name in each],
    )
    denser = unless_apart(
        decide(clean.plain, -1, unit, _missing(clean, grid, "clean", held=False)),
        [decide(of(name, "clean").plain, -1, unit, "")[0] for name in each],
    )
    return [
        Claim(
            "robustness", False,
            "Sparser gradients go with robustness, at fixed scale",
            "partial rank correlation of robust accuracy with the image gradient's Gini, its l1 held fixed",
            robust.shape, *sparser,
        ),
        Claim(
            "generalisation", False,
            "Denser gradients go with generalisation",
            "rank correlation of clean test accuracy with the image gradient's Gini (below 0: denser is better)",
            clean.plain, *denser,
        ),
        Claim(
            "robustness", False,
            "It is the gradient's scale rather than its shape that goes with robustness",
            "size of the partial rank correlation of robust accuracy with l1, Gini held fixed, less that with Gini, l1 "
            "held fixed",
            robust.lead, *leads(robust.lead, robust.scale, robust.shape, unit, of_robust),
        ),
    ]  # fmt: skip


def _missing(of: Association, grid: Design, outcome: str, *, held: bool) -> str:
    """Why there is no correlation."""
    named = {"y": OUTCOMES[outcome][0], "x": "the Gini of the image gradient", "z": "the l1 of the image gradient"}
    still = [named[name] for name in of.constant if held or name != "z"]
    if still:
        return f"{' and '.join(still)} {'is' if len(still) == 1 else 'are'} the same in all networks"
    if of.plain.value is not None:
        return "sparsity and scale put the networks in one order, so neither can be held fixed"
    if outcome == "robust" and not np.isfinite(grid.table(OUTCOMES["robust"][1])).any():
        return "no robust accuracy at the headline comes from an audited panel that holds"
    return f"no seed has {ENOUGH} configurations with all that is needed"


def _pairs(grid: Design) -> list[Pair]:
    """Max less average pool in sparsity and in robust accuracy: over all pairs, then for each defence that has one."""
    tables = {
        "image Gini": grid.table(measured(*SHAPE)),
        "robust accuracy": grid.table(OUTCOMES["robust"][1]),
        "clean test accuracy": grid.table(OUTCOMES["clean"][1]),
    }
    by_rest: dict[str, dict[str, int]] = {}
    for place, configuration in enumerate(grid.configurations):
        by_rest.setdefault(configuration.rest, {})[configuration.pool] = place
    both = [(of["max"], of["avg"]) for of in by_rest.values() if {"max", "avg"} <= of.keys()]
    defences = list(dict.fromkeys(grid.configurations[one].defence for one, _ in both))
    found = []
    for name, table in tables.items():
        for defence in [None, *(defences if len(defences) > 1 else [])]:
            some = [pair for pair in both if defence in (None, grid.configurations[pair[0]].defence)]
            if some:
                found.append(Pair(name if defence is None else f"{name}, {defence}", _difference(table, some)))
    return found


def _difference(table: Floats, pairs: Sequence[tuple[int, int]]) -> Estimate:
    """The mean over pairs of the first less the second, seed by seed; a seed that lacks one of them is left out,
    because the mean over other pairs would be another number."""
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))
    return estimate((table[:, first] - table[:, second]).mean(1), None, None, len(pairs))


def _pooling(pairs: Sequence[Pair]) -> list[Claim]:
    of = {pair.says: pair.estimate for pair in pairs}
    kinds: tuple[tuple[Literal["sparsity", "robustness"], str, str, str], ...] = (
        ("sparsity", "sparser", "image Gini", "the Gini of the image gradient"),
        ("robustness", "more robust", "robust accuracy", "robust accuracy"),
    )
    claims = []
    for about, word, name, what in kinds:
        found = of.get(name, NOTHING)
        missing = "not measured in pairs" if name in of else "no two networks differ in nothing but the pool"
        verdict = decide(found, 1, None, missing)
        if found.points == 1 and verdict[0] != UNDECIDED:
            verdict = UNDECIDED, f"one pair alone, though {verdict[1]}: it says nothing of networks trained otherwise"
        claims.append(
            Claim(
                about, True,
                f"Max pooling is {word} than average pooling",
                f"{what} with max pool less that with average pool, all else the same; mean over {found.points} pairs",
                found, *verdict,
            )
        )  # fmt: skip
    return claims


def _front(grid: Design, architecture: int) -> Front | None:
    """Means over seeds on the plane; None where fewer than two configurations were measured with every seed."""
    tables = np.stack([grid.table(OUTCOMES[name][1]) for name in ("clean", "robust")], axis=-1)
    own = [place for place, c in enumerate(grid.configurations) if c.architecture == architecture]
    whole = [place for place in own if np.isfinite(tables[:, place]).all()]
    if len(whole) < 2 or len(grid.seeds) < SEEDS:
        return None
    points = tables[:, whole]
    sure, on = chances(points, replicates=REPLICATES, seed=SEED), front(points.mean(0))
    marks = []
    for index, place in enumerate(whole):
        clean, robust = (points[:, index, k] for k in (0, 1))
        over_clean, over_robust = student(clean), student(robust)
        if over_clean is None or over_robust is None:
            return None
        bound = any(cell.bound for (_, c), cell in grid.cells.items() if c == place)
        marks.append(
            Mark(
                grid.configurations[place], float(clean.mean()), float(robust.mean()), over_clean, over_robust,
                bool(on[index]), float(sure[index]), bound,
            )
        )  # fmt: skip
    return Front(grid.architectures[architecture], marks, len(own) - len(whole))
