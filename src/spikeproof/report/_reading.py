"""Sentences made from the numbers by stated rules; a sentence stands only where its rule holds.

The thresholds are conventions, written here once: an undefended network under 20 % is broken, and a rank correlation of
0.5 or more over at least five cells is worth a sentence. None of it is a test of significance.
"""

from __future__ import annotations

from collections.abc import Sequence

from spikeproof.metrics.association import spearman
from spikeproof.metrics.robustness import Interval
from spikeproof.report._data import by_data, data_name, difference
from spikeproof.report._summary import Headline, Summary
from spikeproof.report._text import BOUND, budget, claim, listed, percent, threat, with_interval

__all__ = ["read", "warnings"]

_BROKEN = 0.2
_CORRELATED = 0.5
_ENOUGH = 5
_NAMED = 12


def read(cells: Sequence[Summary], headline: Headline | None, *, tested: bool = False) -> list[str]:
    """The paragraph that reads the results, one sentence or two for each rule.

    tested: whether the page tests the trade-off, seed by seed; a correlation over all its cells would stand beside that
    as a second answer to one question, mixed over seeds.
    """
    if headline is None:
        return ["No cell names a headline evaluation, so the cells are not compared at one threat here."]
    measured = [(cell, worst) for cell in cells if (worst := cell.worst()) is not None]
    if not measured:
        if any(cell.withheld for cell in cells):
            return [f"No cell has a number at the headline ({threat(headline, cells)}): see what was not evaluated."]
        return [f"No cell was measured at the headline ({threat(headline, cells)}), so there is no comparison to read."]
    groups = by_data([cell for cell, _ in measured])
    heights = {id(cell): worst for cell, worst in measured}
    said = [_bite(cells, headline)]
    for group in groups:
        own = [(cell, heights[id(cell)]) for cell in group]
        found = [*_best(own, headline), *([] if tested else _shape(own))]
        where = f"On {data_name(group[0])}, as of {group[0].label}: " if len(groups) > 1 else ""
        said += [f"{where}{sentence}" for sentence in found]
    return said


def warnings(cells: Sequence[Summary], headline: Headline | None) -> list[str]:
    """What stands in the way of comparing the cells, or of believing them."""
    return [
        *_other_data(cells), *_absent(cells, headline), *_withheld(cells, headline), *_unlike(cells), *_rising(cells),
        *_blind(cells),
    ]  # fmt: skip


def _other_data(cells: Sequence[Summary]) -> list[str]:
    """Other frames, cells or samples are another task: a number over one says nothing of a number over another."""
    groups = by_data(cells)
    if len(groups) < 2:
        return []
    named = [
        f"{listed([cell.label for cell in group]) if len(group) <= _NAMED else f'{len(group)} cells'} on "
        f"{data_name(group[0])}"
        for group in groups
    ]
    return [
        f"The cells do not see the same data, and only those that do are compared. They differ in "
        f"{difference([group[0] for group in groups])}. {'; '.join(named)}."
    ]


def _bite(cells: Sequence[Summary], headline: Headline) -> str:
    """Does the evaluation break what nobody defended? If not, no other number means much."""
    where = f"eps {budget(headline, cells)}"
    vanilla = [(cell, found) for cell in cells if cell.defence == "vanilla" and (found := _by_pgd(cell)) is not None]
    if not vanilla:
        if any(cell.defence == "vanilla" and cell.withheld for cell in cells):
            return f"No vanilla cell could be evaluated at {where}, so nothing here shows that the attacks bite."
        return f"No vanilla cell was measured at {where}, so nothing on this page shows that the evaluation bites."
    attack = _called(vanilla)
    standing = [
        f"{cell.label} ({'at most ' if cell.bound else ''}{percent(found.share)}{', unsettled' if cell.bound else ''})"
        for cell, found in vanilla
        if found.share >= _BROKEN
    ]
    if standing:
        some = standing if len(standing) <= _NAMED else [f"{len(standing)} of {len(vanilla)}"]
        return (
            f"Not every vanilla cell is broken (under {percent(_BROKEN)}) at {where} by {attack}: {listed(some)} "
            f"{'stands' if len(standing) == 1 else 'stand'}. Either the budget is small for this data or the attack is "
            "weak against it; find out which before reading any other cell as robust."
        )
    every = "Every vanilla cell"
    if any(cell.defence == "vanilla" and cell.withheld for cell in cells):
        every += " that could be evaluated"
    return f"{every} is broken (under {percent(_BROKEN)}) at {where} by {attack}: the evaluation bites."


def _called(cells: Sequence[tuple[Summary, Interval]]) -> str:
    """What the plain attack is called that was run on all of them."""
    names = {cell.plain for cell, _ in cells if _plain(cell) is not None}
    if any(_plain(cell) is None for cell, _ in cells):
        return "the attacks"
    return listed(sorted({"PGD" if str(name).startswith("pgd") else str(name) for name in names}))


def _by_pgd(cell: Summary) -> Interval | None:
    return _plain(cell) or cell.worst()


def _plain(cell: Summary) -> Interval | None:
    """Robust accuracy under the plain PGD at the headline; None where it was not run, or is withheld."""
    return None if cell.plain is None else cell.attack(cell.plain)


def _best(measured: Sequence[tuple[Summary, Interval]], headline: Headline) -> list[str]:
    """Who is most robust, who is most accurate, and whether the intervals can tell."""
    if len(measured) < 2:
        return []
    robust, height = max(measured, key=lambda pair: pair[1].share)
    tied = [cell.label for cell, worst in measured if cell is not robust and worst.high >= height.low]
    sentences = [
        f"The highest worst-case robust accuracy is that of {robust.label}, {claim(robust)}"
        + (f", and the intervals of {len(tied)} of the {len(measured) - 1} other cells overlap it." if tied else ".")
    ]
    accurate = [(cell, clean) for cell, _ in measured if (clean := cell.clean("test")) is not None]
    if len(accurate) < 2:
        return sentences
    top, most = max(accurate, key=lambda pair: pair[1].share)
    if top is robust:
        return [*sentences, f"It is also the most accurate on clean inputs, {with_interval(most)}: no trade-off there."]
    own = robust.clean("test")
    return [
        *sentences,
        f"The most accurate on clean inputs is another, {top.label}, {with_interval(most)}, "
        f"where {robust.label} has {with_interval(own)}.",
    ]


def _shape(measured: Sequence[tuple[Summary, Interval]]) -> list[str]:
    """Do sparser or smaller input gradients go with more robust accuracy, over the cells of this page?

    A number that is known to be too high is left out: where sparsity has blinded the attacks, it would make the answer.
    """
    bounds = sum(cell.bound for cell, _ in measured)
    without = f", less the {bounds} whose robust accuracy is {BOUND}," if bounds else ""
    sentences = []
    for metric, words in (("gini", "a sparser input gradient (Gini)"), ("l1", "a larger input gradient (l1)")):
        pairs = [
            (found.value, worst.share)
            for cell, worst in measured
            if not cell.bound and (found := cell.measure("image", metric)) is not None and found.value is not None
        ]
        rho = spearman(pairs)
        if len(pairs) < _ENOUGH or rho is None:
            continue
        verdict = "goes with no clear change in"
        if abs(rho) >= _CORRELATED - 1e-9:  # a rho of exactly 0.5 may be a rounding short of it
            verdict = f"goes with {'more' if rho > 0 else 'less'}"
        sentences.append(
            f"Over the {len(pairs)} cells that have both{without or ','} {words} {verdict} robust accuracy "
            f"(Spearman's rho {rho:.2f}; it describes these cells and tests nothing)."
        )
    return sentences


def _absent(cells: Sequence[Summary], headline: Headline | None) -> list[str]:
    if headline is None:
        return []
    absent = [cell.label for cell in cells if cell.headline is None and not cell.withheld]
    if not absent:
        return []
    return [f"Not measured at the headline ({threat(headline, cells)}), and so in no comparison: {listed(absent)}."]


def _withheld(cells: Sequence[Summary], headline: Headline | None) -> list[str]:
    """Without a number there is nothing to compare."""
    withheld = [cell.label for cell in cells if cell.withheld]
    if headline is None or not withheld:
        return []
    where = threat(headline, cells)
    return [f"Not evaluated at the headline ({where}), and so in no comparison and no figure: {listed(withheld)}."]


def _unlike(cells: Sequence[Summary]) -> list[str]:
    """Cells that differ in what was done to them cannot be compared without a word."""
    measured = [cell.headline for cell in cells if cell.headline is not None and not cell.withheld]
    notes = []
    if len({frozenset(entry["attacks"]) for entry in measured}) > 1:
        notes.append(
            "The cells were not all attacked by the same attacks, so their worst cases are not over the same set: "
            "the cell that was attacked less looks more robust than it is."
        )
    if len({(entry["protocol"], entry["surface"], entry["norm"]) for entry in measured}) > 1:
        notes.append("The headline evaluation has not one protocol, surface and norm in all cells: do not compare.")
    counts = sorted({entry["images"] for entry in measured})
    if len(counts) > 1:
        notes.append(f"The cells were not all evaluated on the same number of images ({listed([*map(str, counts)])}).")
    return notes


def _rising(cells: Sequence[Summary]) -> list[str]:
    """More room cannot help the defender: where accuracy rises with eps, an attack has not converged."""
    notes = []
    for cell in cells:
        if cell.curve is None:
            continue
        steps = zip(cell.curve.points, cell.curve.points[1:], cell.curve.texts, cell.curve.texts[1:], strict=False)
        rises = [
            f"{low} to {high}"
            for before, after, low, high in steps
            if before is not None and after is not None and after.correct > before.correct
        ]
        if rises:
            notes.append(
                f"{cell.label}: worst-case robust accuracy rises from eps {listed(rises)}. More room cannot help the "
                "defender, so the attacks have not converged there and the larger number is too high."
            )
    return notes


def _blind(cells: Sequence[Summary]) -> list[str]:
    """Where a gradient attack was blind, its failure says nothing of the network."""
    notes = []
    for cell in cells:
        budgets: dict[tuple[str, int, int], list[str]] = {}
        for entry in cell.numbers["evaluations"]:
            share = entry["worst"]["zero_gradient"]
            if share is not None and share["correct"]:
                case = (entry["evaluation"], share["correct"], share["total"])
                budgets.setdefault(case, []).append(entry["eps_text"])
        if budgets:
            met = [
                f"{count} of {total} attacked images ({evaluation}, eps {listed(eps)})"
                for (evaluation, count, total), eps in budgets.items()
            ]
            notes.append(
                f"{cell.label}: the gradient that the attacks follow is zero everywhere for {listed(met)}. A gradient "
                "attack is blind there, and that such an image survives does not show that it is robust."
            )
    return notes
