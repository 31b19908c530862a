"""What the study says of the trade-off: claims with verdicts, correlations with intervals, fronts with chances.

Numbers only: `_claims` has the rule, `_pairs` the comparisons in pairs, `_tradeoff_figures` draws, `_tradeoff_text`
words it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spikeproof.metrics.association import Association, associations
from spikeproof.metrics.pareto import chances, front
from spikeproof.metrics.resampling import ENOUGH, NOTHING, SEEDS, Bounds, Draws, Floats, draws, student
from spikeproof.report._claims import DECIDING, MANY, REPLICATES, SCALE, SEED, SHAPES, Claim, Question, unsure, verdicts
from spikeproof.report._design import MEASURES, OUTCOMES, SITES, Configuration, Design, design, measured
from spikeproof.report._pairs import Pair, asked, pairs_of
from spikeproof.report._summary import Summary

__all__ = ["GENERAL", "POOLED", "Answers", "Found", "Front", "Mark", "Variant", "answer", "lacking"]

POOLED = "all architectures"

Place: TypeAlias = tuple[str, str]
"""Site and measure."""

Known: TypeAlias = Mapping[tuple[str, str, Place], Association]
"""Group, outcome and place -> the correlations."""

GENERAL = {
    "clean": "clean test accuracy",
    "gap": "a small gap between training and test",
    "robust_gap": "a small gap of robust accuracy between training and test",
    "corrupted": "accuracy under corruptions",
}
"""Outcomes that are called generalisation, each a claim of its own, with the words of it."""


class Found(NamedTuple):
    """How one outcome goes with one measure, over `group`: all architectures, or one."""

    group: str
    outcome: str
    site: str
    metric: str
    association: Association


class Variant(NamedTuple):
    """What decides the claims, taken in another way: outcome -> its association with the measure at `place`."""

    says: str
    place: Place
    of: Mapping[str, Association]


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

    def of(self, group: str, outcome: str, place: Place) -> Association | None:
        """One of the correlations; None where the measure was not taken."""
        for one in self.found:
            if (one.group, one.outcome, (one.site, one.metric)) == (group, outcome, place):
                return one.association
        return None

    @property
    def decidable(self) -> bool:
        """Whether any claim could have had a verdict, by the design of the study alone."""
        return any(claim.p is not None for claim in self.claims)

    @property
    def cautious(self) -> bool:
        return self.robust > 0 and self.bounds >= MANY * self.robust


def answer(cells: Sequence[Summary]) -> Answers | None:
    """The answers of a study; None where it is too small for any of them (see `lacking`)."""
    grid = design(cells)
    if not _enough(grid):
        return None
    unit, owners = grid.units(ENOUGH)
    found, pairs = _correlations(grid, owners), pairs_of(grid)
    questions, deciding = _deciding(grid, owners, found, asked(pairs))
    robust = [cell for cell in grid.cells.values() if OUTCOMES["robust"][1](cell) is not None]
    return Answers(
        design=grid,
        unit=unit,
        claims=verdicts(questions, unit),
        found=[one._replace(association=deciding.get(_key(one), one.association)) for one in found],
        variants=_variants(grid, owners, found, deciding),
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


def _key(one: Found) -> tuple[str, str, Place]:
    return one.group, one.outcome, (one.site, one.metric)


def _drawn(grid: Design, owners: Sequence[object], strata: NDArray[np.int64], replicates: int) -> Draws | None:
    return draws([str(one) for one in owners], strata, max(1, len(grid.seeds)), replicates=replicates, seed=SEED)


def _tables(
    grid: Design, places: Sequence[Place], outcomes: Sequence[str]
) -> tuple[dict[Place, Floats], dict[str, Floats], Floats]:
    shapes = {place: grid.table(measured(*place)) for place in places}
    return shapes, {name: grid.table(OUTCOMES[name][1]) for name in outcomes}, grid.table(measured(*SCALE))


def _correlations(grid: Design, owners: Sequence[object]) -> list[Found]:
    """Every outcome with every measure, over all architectures by rank within each, and in each alone."""
    strata = grid.strata("architecture")
    drawn = _drawn(grid, owners, strata, REPLICATES)
    shapes, outcomes, scale = _tables(grid, [(site, metric) for site in SITES for metric in MEASURES], list(OUTCOMES))
    groups = {POOLED: np.ones(len(strata), dtype=bool)}
    if len(grid.architectures) > 1:
        groups |= {name: strata == place for place, name in enumerate(grid.architectures)}
    found = []
    for group, inside in groups.items():
        some = None if drawn is None else drawn._replace(units=drawn.units[:, inside])
        x = {place: table[:, inside] for place, table in shapes.items()}
        y = {name: table[:, inside] for name, table in outcomes.items()}
        for (place, outcome), association in associations(x, y, scale[:, inside], strata[inside], some).items():
            if (np.isfinite(shapes[place]) & np.isfinite(outcomes[outcome])).any():
                found.append(Found(group, outcome, *place, association))
    order = {(*place, outcome): n for n, (place, outcome) in enumerate((p, o) for p in shapes for o in outcomes)}
    return sorted(found, key=lambda one: order[one.site, one.metric, one.outcome])


def _deciding(
    grid: Design, owners: Sequence[object], found: Sequence[Found], pairs: Sequence[Question]
) -> tuple[list[Question], dict[tuple[str, str, Place], Association]]:
    """What is asked, with as many resamples as it takes until others would change no verdict, or as there are at most;
    and the correlations that decide."""
    outcomes = [name for name in ("robust", *GENERAL) if np.isfinite(grid.table(OUTCOMES[name][1])).any()]
    strata = grid.strata("architecture")
    shapes, values, scale = _tables(grid, [*SHAPES], outcomes)
    known = {_key(one): one.association for one in found}
    open_ = {(place, name) for name in outcomes for place in SHAPES}
    questions: list[Question] = []
    for replicates in DECIDING:
        drawn = _drawn(grid, owners, strata, replicates)
        for (place, name), one in associations(shapes, values, scale, strata, drawn, open_).items():
            known[POOLED, name, place] = one
        questions = [*_associated(known, grid), *pairs]
        open_ = {(one.key[1], one.key[0]) for one in unsure(questions) if one.key is not None}
        if not open_:
            break
    return questions, {(POOLED, name, place): known[POOLED, name, place] for name in outcomes for place in SHAPES}


def _variants(grid: Design, owners: Sequence[object], found: Sequence[Found], deciding: Known) -> list[Variant]:
    """Would the deciding correlations be others if something else were held fixed, bounds left out, or sparsity
    measured in another way or place?"""
    ways: list[tuple[str, tuple[str, ...], Callable[[Summary], bool]]] = [
        ("within each pooling too", ("architecture", "pool"), lambda _: True),
        ("within each defence, as its knobs turn", ("architecture", "defence"), lambda _: True),
        ("within one surrogate, neuron and number of steps", ("architecture", "slope"), lambda _: True),
        ("without unsettled robust accuracies", ("architecture",), lambda cell: not cell.bound),
    ]
    outcomes = list(dict.fromkeys(outcome for _, outcome, _ in deciding))
    places = [place for place in SHAPES if any(one.plain.value is not None for one in _at(deciding, place).values())]
    variants = [Variant("as decided", place, _at(deciding, place)) for place in places]
    for says, fields, keep in ways:
        some, strata = grid.kept(keep), grid.strata(*fields)
        if len(set(strata.tolist())) == len(strata):
            continue  # nothing is left to compare inside a stratum
        # Inside a defence there is nothing but its configurations to resample.
        units = list(range(len(strata))) if "defence" in fields else owners
        shapes, values, scale = _tables(some, places, outcomes)
        pooled = associations(shapes, values, scale, strata, _drawn(grid, units, strata, REPLICATES))
        variants += [Variant(says, place, {name: pooled[place, name] for name in outcomes}) for place in places]
    others = {_key(one): one.association for one in found if one.group == POOLED and one.outcome in outcomes}
    for place in dict.fromkeys(place for _, _, place in others):
        if place not in SHAPES and any(one.plain.value is not None for one in _at(others, place).values()):
            variants.append(Variant("measured otherwise", place, _at(others, place)))
    return variants


def _at(known: Known, place: Place) -> dict[str, Association]:
    return {outcome: one for (group, outcome, where), one in known.items() if (group, where) == (POOLED, place)}


def _associated(known: Known, grid: Design) -> list[Question]:
    """The claims that are correlations: on robustness, then each outcome of generalisation, with both measures."""
    each = list(grid.architectures) if len(grid.architectures) > 1 else []
    nothing = Association(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING)
    questions = []
    for kind in ("shape", "lead", *GENERAL):
        for place in SHAPES:
            outcome = kind if kind in GENERAL else "robust"
            if not np.isfinite(grid.table(measured(*place))).any() and place != SHAPES[0]:
                continue
            if kind in GENERAL and kind != "clean" and not np.isfinite(grid.table(OUTCOMES[kind][1])).any():
                continue
            of = known.get((POOLED, outcome, place), nothing)
            apart = tuple(known.get((name, outcome, place), nothing) for name in each)
            questions.append(_question(kind, place, of, apart, _missing(of, grid, outcome, place, kind)))
    return questions


def _question(kind: str, place: Place, of: Association, apart: Sequence[Association], missing: str) -> Question:
    name = f"{MEASURES[place[1]].name} {SITES[place[0]]}"
    key = (kind if kind in GENERAL else "robust", place)
    if kind == "shape":
        return Question(
            "robustness", "Sparser gradients go with robustness, at fixed scale", name,
            f"partial rank correlation of robust accuracy with the {name}, the l1 at the input held fixed",
            1, of.shape, missing, apart=tuple(one.shape for one in apart), key=key,
        )  # fmt: skip
    if kind == "lead":
        return Question(
            "robustness", "It is the gradient's scale rather than its shape that goes with robustness", name,
            f"size of the partial rank correlation of robust accuracy with l1, the {name} held fixed, less that with "
            f"the {name}, l1 held fixed",
            1, of.lead, missing, apart=tuple(one.lead for one in apart), key=key,
            beside=((1, of.scale, -1, "a smaller scale"), (-1, of.shape, 1, "a sparser shape")),
        )  # fmt: skip
    return Question(
        "generalisation", f"Denser gradients go with {GENERAL[kind]}", name,
        f"rank correlation of {OUTCOMES[kind][0]} with the {name} (below 0: denser is better)",
        -1, of.plain, missing, apart=tuple(one.plain for one in apart), key=key,
    )  # fmt: skip


def _missing(of: Association, grid: Design, outcome: str, place: Place, kind: str) -> str:
    """Why there is no correlation."""
    shape = f"the {MEASURES[place[1]].name} {SITES[place[0]]}"
    named = {"y": OUTCOMES[outcome][0], "x": shape, "z": "the l1 of the input gradient"}
    still = [named[name] for name in of.constant if kind not in GENERAL or name != "z"]
    if still:
        return f"{' and '.join(still)} {'is' if len(still) == 1 else 'are'} the same in all networks"
    if of.plain.value is not None:
        return "sparsity and scale put the networks in one order, so neither can be held fixed"
    if outcome == "robust" and not np.isfinite(grid.table(OUTCOMES["robust"][1])).any():
        return "no robust accuracy at the headline comes from an audited panel that holds"
    return f"no seed has {ENOUGH} configurations with all that is needed"


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
