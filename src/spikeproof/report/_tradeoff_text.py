"""The section on the trade-off in words and tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy  # its functions take half a second to import, and do so when they are first asked

from spikeproof.metrics.association import Association
from spikeproof.metrics.resampling import SEEDS, Bounds, Estimate
from spikeproof.report._claims import CONTRADICTED, FRAGILE, MANY, SUPPORTED, UNDECIDED, Claim
from spikeproof.report._design import LEARNT, MEASURES, OUTCOMES, SITES
from spikeproof.report._pairs import KINDS
from spikeproof.report._tables import Entry, Table, numbers, word, words
from spikeproof.report._text import BOUND, counted, listed, percent
from spikeproof.report._tradeoff import POOLED, Answers, Front, Mark

__all__ = [
    "absent", "bounded", "claims_table", "correlation_tables", "front_table", "notes", "pairs_table", "told",
    "variants_table",
]  # fmt: skip

_TONES = {SUPPORTED: "good", CONTRADICTED: "bad", UNDECIDED: "", FRAGILE: ""}


def bounded(answers: Answers) -> str:
    """How many of the robust accuracies that are drawn are more than the truth may be."""
    return f" {answers.bounds} of {answers.robust} robust accuracies are {BOUND}." if answers.bounds else ""


def told(answers: Answers) -> str:
    """The claims by their verdicts, in a sentence each; those that are undecided are counted."""
    said = []
    for verdict in (SUPPORTED, CONTRADICTED, FRAGILE):
        some = [f"\u201c{claim.says}\u201d ({claim.measure})" for claim in answers.claims if claim.verdict == verdict]
        if some:
            said.append(f"{verdict.capitalize()}: {listed(some)}.")
    open_ = sum(claim.verdict == UNDECIDED for claim in answers.claims)
    return " ".join([*said, f"Of {len(answers.claims)} claims {open_} are undecided."] if open_ else said)


def claims_table(answers: Answers) -> Table:
    columns = [
        *words("claim", "measure", "verdict"), *numbers("number", "over seeds", f"over {answers.unit}"),
        *numbers("p, corrected"), *words("because"),
    ]  # fmt: skip
    rows = [
        [
            word(claim.says),
            word(claim.measure),
            Entry(claim.verdict, numeric=False, tone=_TONES[claim.verdict]),
            _value(claim.estimate),
            _bounds(claim.estimate.over_seeds),
            Entry("not asked") if claim.paired else _drawn(claim.estimate),
            _chance(claim),
            Entry(f"{claim.why}.", f"The number: {claim.number}.", numeric=False, caution=_caution(answers, claim)),
        ]
        for claim in answers.claims
    ]
    return Table(columns, rows)


def _drawn(found: Estimate) -> Entry:
    """An interval of resamples, and by how much its ends would move with others."""
    if found.tail is None:
        return _bounds(found.over_units)
    return Entry(
        _bounds(found.over_units).main, f"ends \u00b1 {found.tail.ends:.3f}, {found.tail.replicates} resamples"
    )


def _chance(claim: Claim) -> Entry:
    if claim.p is None or claim.corrected is None:
        return Entry("none")
    return Entry(f"{claim.corrected:.2g}", f"{claim.p:.2g} alone")


def _caution(answers: Answers, claim: Claim) -> str:
    """What must be read with a verdict on robustness, where too many of its numbers are upper bounds."""
    about = claim.about == "robustness" and claim.estimate.value is not None
    return f"{answers.bounds} of {answers.robust} robust accuracies are {BOUND}" if answers.cautious and about else ""


def notes(answers: Answers) -> list[str]:
    """What the numbers of this study can and cannot show."""
    grid = answers.design
    seeds, said = len(grid.seeds), []
    networks = f"{len(grid.cells)} networks: {len(grid.configurations)} configurations, {counted(seeds, 'seed')}"
    said.append(f"{networks}, {counted(len(grid.architectures), 'architecture')} ({listed(grid.architectures)}).")
    if seeds >= SEEDS:
        reach = float(scipy.special.stdtrit(seeds - 1, 0.975)) / seeds**0.5
        said.append(
            f"With {seeds} seeds, an interval over seeds reaches {reach:.1f} standard deviations of a single seed to "
            "either side of the mean. An effect that is smaller than that is not shown, and not shown to be absent. "
            f"Resampling {seeds} seeds could not do better: it never leaves the range of what was seen, which holds "
            f"the true mean {percent(1 - 2.0 ** (1 - seeds))} of the time at most."
        )
    else:
        said.append(
            f"An interval over seeds needs {SEEDS} of them: with {counted(seeds, 'seed')} no claim can be decided."
        )
    if (slopes := len({configuration.slope for configuration in grid.configurations})) > 1:
        said.append(
            f"Gradients are taken under each network's own surrogate, neuron and number of steps, of which there are "
            f"{slopes} sets: their l1 is partly the surrogate's doing. See the rows within one of them below."
        )
    if same := _twins(answers):
        said.append(
            f"{counted(same, 'network')} {'is' if same == 1 else 'are'} the same as another of its seed in accuracy, "
            "robust accuracy and gradient, to the last digit: two configurations that came to one end count twice."
        )
    if answers.cautious:
        said.append(
            f"The robust accuracy of {answers.bounds} of {answers.robust} networks is {BOUND} ({percent(MANY)} or more "
            "deserve this caution). If attacks fail more often on sparse gradients, these numbers lean towards the "
            "claim."
        )
    elif answers.bounds:
        said.append(f"The robust accuracy of {answers.bounds} of {answers.robust} networks is {BOUND}.")
    if answers.robust < len(grid.cells):
        said.append(
            f"{len(grid.cells) - answers.robust} of {len(grid.cells)} networks have no robust accuracy from an audited "
            "panel that holds, and count for clean accuracy alone."
        )
    if grid.failed:
        said.append(
            f"Left out, because they have less than {percent(LEARNT)} of the best clean accuracy of their "
            f"architecture: {listed([cell.label for cell in grid.failed])}."
        )
    if grid.unlike:
        said.append(
            "Left out, because another version, tier or kinds of attacks made their numbers than those of most: "
            f"{listed([cell.label for cell in grid.unlike])}."
        )
    empty = len(grid.seeds) * len(grid.configurations) - len(grid.cells) - len(grid.failed)
    if empty:
        said.append(f"{counted(empty, 'cell')} of the grid {'is' if empty == 1 else 'are'} missing.")
    return said


def _twins(answers: Answers) -> int:
    """Networks whose clean accuracies, robust accuracy and gradient are all those of another one of the same seed;
    a network that lacks one of these is like no other."""
    seen: set[tuple[object, ...]] = set()
    same = 0
    for (seed, _), cell in answers.design.cells.items():
        gradient = [cell.measure("image", metric) for metric in ("gini", "l1")]
        whole = (seed, cell.clean("test"), cell.clean("train"), cell.worst(), *gradient)
        same += None not in whole and whole in seen  # what was not measured is not the same
        seen.add(whole)
    return same


def pairs_table(answers: Answers) -> Table | None:
    if not answers.pairs:
        return None
    columns = [
        *words("max less average pool in", "networks"),
        *numbers(
            "pairs", "seeds", "difference", "over seeds and images", "p by flips of signs", "least p it could have"
        ),
    ]
    rows = [
        [
            word(KINDS[pair.kind]),
            word(pair.group or "all"),
            Entry(str(pair.estimate.points)),
            Entry(str(pair.estimate.seeds)),
            _value(pair.estimate),
            _bounds(pair.estimate.over_seeds),
            Entry("none" if pair.flips is None else f"{pair.flips.p:.2g}"),
            Entry("none" if pair.flips is None else f"{pair.flips.least:.2g}"),
        ]
        for pair in answers.pairs
    ]
    return Table(columns, rows)


def variants_table(answers: Answers) -> Table | None:
    """One row for each way and measure, one column for each number that decides a claim."""
    outcomes = list(dict.fromkeys(name for way in answers.variants for name in way.of))
    columns = [
        *words("ranked", "measure"),
        *numbers("networks of a seed"),
        *(numbers("robust, l1 held fixed (claimed: +)", "scale less shape (+)") if "robust" in outcomes else []),
        *numbers(*(f"{OUTCOMES[name][0]} (\u2212)" for name in outcomes if name != "robust")),
    ]
    rows = []
    for way in answers.variants:
        shown = [(way.of[name].plain, -1) for name in outcomes if name != "robust"]
        if "robust" in outcomes:
            shown = [(way.of["robust"].shape, 1), (way.of["robust"].lead, 1), *shown]
        points = max((one.plain.points for one in way.of.values()), default=0)
        name = f"{MEASURES[way.place[1]].name} {SITES[way.place[0]]}"
        rows.append([word(way.says), word(name), Entry(str(points)), *(_sided(one, sign) for one, sign in shown)])
    return Table(columns, rows) if rows else None


def _sided(found: Estimate, claimed: int) -> Entry:
    """A number with both intervals, toned where both lie on one side of 0."""
    sides = {bounds.side for bounds in (found.over_seeds, found.over_units) if bounds is not None}
    both = found.over_seeds is not None and found.over_units is not None
    tone = ("good" if sides == {claimed} else "bad" if sides == {-claimed} else "") if both else ""
    return _both(found)._replace(tone=tone)


def front_table(front: Front) -> Table:
    columns = [
        *words("number", "configuration"), *numbers("clean test", "robust"), *words("on the front"), *numbers("chance")
    ]  # fmt: skip
    rows = [
        [
            word(str(index + 1)),
            word(mark.configuration.label),
            _mean(mark.clean, mark.over_clean),
            _robust(mark),
            word("yes" if mark.on_front else "no"),
            Entry(percent(mark.chance)),
        ]
        for index, mark in enumerate(front.marks)
    ]
    return Table(columns, rows)


def _robust(mark: Mark) -> Entry:
    plain = _mean(mark.robust, mark.over_robust)
    return plain._replace(main=f"≤ {plain.main}", caution=BOUND) if mark.bound else plain


def absent(front: Front) -> str:
    """What the front does not show."""
    return f"{counted(front.absent, 'configuration')} not measured with every seed." if front.absent else ""


def correlation_tables(answers: Answers) -> list[tuple[str, Table]]:
    """Every correlation, over all architectures and in each, those where there is none left out."""
    groups = dict.fromkeys([POOLED, *(one.group for one in answers.found)])
    return [(name, table) for name in groups if (table := _correlations(answers, name)).rows]


def _correlations(answers: Answers, group: str) -> Table:
    """Every outcome with every measure: three correlations, each with its two intervals."""
    columns = [
        *words("outcome", "measure"),
        *numbers("networks of a seed", "with the measure", "l1 held fixed", "with l1, the measure held fixed"),
    ]
    rows = [
        [
            word(OUTCOMES[one.outcome][0]),
            Entry(f"{MEASURES[one.metric].name} {SITES[one.site]}", numeric=False),
            Entry(str(one.association.plain.points)),
            *map(_both, _parts(one.association)),
        ]
        for outcome in OUTCOMES
        for one in answers.found
        if one.group == group and one.outcome == outcome and one.association.plain.value is not None
    ]
    return Table(columns, rows)


def _parts(association: Association) -> Sequence[Estimate]:
    return association.plain, association.shape, association.scale


def _value(found: Estimate) -> Entry:
    return Entry("undefined" if found.value is None else _signed(found.value))


def _bounds(bounds: Bounds | None) -> Entry:
    return Entry("none" if bounds is None else f"[{_signed(bounds.low)}, {_signed(bounds.high)}]")


def _both(found: Estimate) -> Entry:
    """A correlation with its interval over seeds, and the one over configurations under it."""
    if found.value is None:
        return Entry("undefined")
    return Entry(f"{_signed(found.value)} {_bounds(found.over_seeds).main}", _bounds(found.over_units).main)


def _mean(value: float, over: Bounds) -> Entry:
    low, high = np.clip(over, 0.0, 1.0)
    return Entry(percent(value), f"[{100 * low:.1f}, {100 * high:.1f}]")


def _signed(value: float) -> str:
    return f"{value:+.2f}" if abs(value) >= 0.005 else "0.00"
