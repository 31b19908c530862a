"""The verdict on each claim, by one rule from the numbers; nothing here is written by hand for a study.

**The rule.** Each claim names one measure, one number and a sign, in advance. It is *supported* where the 95 % interval
over seeds and the one over configurations lie whole on the claimed side of 0, and p, corrected by Holm's method for all
claims of the page, is at most 5 %; *contradicted* where the same holds on the other side; *fragile* where other
replicates of the bootstrap could turn it, after as many of them as are drawn at most; and *undecided* in every other
case, with the reason. Differences between pools are paired and the pool is the only thing that was changed, so there
the seeds decide: by an interval over seeds and images, and by flips of signs, which are exact.

**What the number is.** Sparsity is measured in two ways, and both are asked: by the Gini index of the cross-entropy
gradient at the input, and as the paper does, by the share of exact zeros, behind the first layer, which is the first
place where its hooks see any. The scale is the l1 norm at the input (batch-norm in eval mode); robust accuracy is the
worst case at the headline; generalisation is four outcomes, each with its own verdict. Any other measure is shown and
decides nothing, so that trying twenty cannot find one that fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from spikeproof.metrics.multiple import LEVEL, holm, levels
from spikeproof.metrics.paired import Flips
from spikeproof.metrics.resampling import CLEAR, ENOUGH, SEEDS, Estimate

__all__ = [
    "CONTRADICTED", "DECIDING", "FRAGILE", "MANY", "REPLICATES", "SCALE", "SEED", "SHAPES", "SUPPORTED", "UNDECIDED",
    "Claim", "Question", "unsure", "verdicts",
]  # fmt: skip

SUPPORTED, CONTRADICTED, UNDECIDED, FRAGILE = "supported", "contradicted", "undecided", "fragile"

SHAPES = (("image", "gini"), ("stem", "zero_share"))
"""Site and measure that stand for sparsity: ours, and the paper's where zeros are. (The second joined on 2026-11-28,
when the rows of `results/` had been seen; for them it was not chosen blindly.)"""

SCALE = ("image", "l1")
"""What stands for the gradient's scale in every claim."""

MANY = 0.25
"""Share of networks with an unsettled robust accuracy from which a verdict on robustness carries a caution."""

REPLICATES = 1000
DECIDING = (4_000, 32_000, 128_000)
SEED = 0
"""Resamples of each interval that decides nothing; those of one that does, at first and as long as others could turn
its verdict; and the seed they are drawn with."""


class Question(NamedTuple):
    """A claim before its verdict: what decides it, and the side that is claimed (`sign`).

    `missing` is the reason where there is no number. `flips` stands where networks are compared in pairs. `beside` are
    further numbers that must lie on a side too, each with what it would say; `apart` the same number of each
    architecture alone. `key` names the correlation behind it, by outcome, site and measure.
    """

    about: Literal["robustness", "generalisation", "sparsity"]
    says: str
    measure: str
    number: str
    sign: int
    estimate: Estimate
    missing: str
    paired: bool = False
    flips: Flips | None = None
    beside: tuple[tuple[int, Estimate, int, str], ...] = ()
    apart: tuple[Estimate, ...] = ()
    key: tuple[str, tuple[str, str]] | None = None

    @property
    def p(self) -> float | None:
        """None also where the design could give no verdict whatever was found: that claim costs the others nothing."""
        if self.paired:
            open_ = self.flips is None or self.estimate.points == 1 or self.flips.least > LEVEL
            return None if self.flips is None or open_ or self.estimate.over_seeds is None else self.flips.p
        tail = self.estimate.tail
        return None if tail is None or self.estimate.over_seeds is None else tail.p


class Claim(NamedTuple):
    """A claim with its verdict and why; p before and after correction, None where there is none.

    `about` is what it is a claim on; a `paired` one compares networks in pairs, so that the seeds decide alone.
    """

    about: Literal["robustness", "generalisation", "sparsity"]
    paired: bool
    says: str
    measure: str
    number: str
    estimate: Estimate
    p: float | None
    corrected: float | None
    verdict: str
    why: str


def verdicts(questions: Sequence[Question], unit: str) -> list[Claim]:
    """The claims of a page, in the order given; those that have a p are corrected together. `unit` is what the
    intervals over configurations resampled."""
    known = [one.p for one in questions if one.p is not None]
    corrected, held = iter(holm(known)), iter(levels(known))
    claims = []
    for one in questions:
        told = (next(corrected), next(held)) if one.p is not None else (None, LEVEL)
        word, why = _decide(one, told[1], unit, len(known))
        claims.append(
            Claim(one.about, one.paired, one.says, one.measure, one.number, one.estimate, one.p, told[0], word, why)
        )
    return claims


def unsure(questions: Sequence[Question]) -> list[Question]:
    """Those whose verdict other replicates could turn."""
    held = iter(levels([one.p for one in questions if one.p is not None]))
    return [one for one in questions if one.p is not None and not _clear(one, next(held))]


def _clear(one: Question, level: float) -> bool:
    if one.flips is not None:
        return abs(one.flips.p - level) >= CLEAR * one.flips.error
    sides = all(estimate.clear for _, estimate, _, _ in one.beside) and one.estimate.clear
    return sides and (one.estimate.tail is None or one.estimate.tail.clear_of(level))


def _decide(one: Question, level: float, unit: str, claims: int) -> tuple[str, str]:
    found = one.estimate
    if found.value is None:
        return UNDECIDED, one.missing
    if found.over_seeds is None:
        return UNDECIDED, f"{found.seeds} of the {SEEDS} seeds that an interval needs"
    side = found.over_seeds.side
    if side == 0:
        rest = "other seeds or images could turn it round" if one.paired else "other seeds could turn it round"
        return UNDECIDED, f"the interval over seeds{' and images' if one.paired else ''} holds 0: {rest}"
    open_ = _paired(one, level) if one.paired else _resampled(one, side, unit)
    if open_ is not None:
        return UNDECIDED, open_
    if {_side(each) for each in one.apart} >= {1, -1}:
        return UNDECIDED, "one architecture goes one way by both of its intervals, and another the other way"
    if not _clear(one, level):
        return FRAGILE, _fragile(one, level)
    if one.p is not None and one.p > level:
        return UNDECIDED, f"p = {one.p:.2g} is more than {level:.2g}, the limit for it among {_counted(claims)}"
    for claimed, number, wanted, says in one.beside:
        if claimed == side and _side(number) != wanted:
            return UNDECIDED, f"one says more than the other, but {says} does not go with more robustness for sure"
    where = "above" if side > 0 else "below"
    how = f"the interval over seeds and images lies {where} 0" if one.paired else f"both intervals lie {where} 0"
    return (SUPPORTED if side == one.sign else CONTRADICTED), f"{how}, and p holds among {_counted(claims)}"


def _counted(claims: int) -> str:
    return "1 claim" if claims == 1 else f"{claims} claims"


def _fragile(one: Question, level: float) -> str:
    tail = one.estimate.tail
    if tail is None:
        return f"p is within its Monte Carlo error of {level:.2g}, the limit for it"
    so = f"after {tail.replicates} resamples"
    if one.estimate.clear:
        return f"{so} p = {tail.p:.2g} is not clear of {level:.2g}, the limit for it"
    return f"{so} an end of an interval is not clear of 0, with a Monte Carlo error of {tail.ends:.4f}"


def _resampled(one: Question, side: int, unit: str) -> str | None:
    """Why the interval over configurations leaves it open; None where it does not."""
    found = one.estimate
    if found.over_units is None:
        if found.undefined == 1.0:
            return f"there are fewer than {ENOUGH} {unit} to resample"
        share = f"in {100 * found.undefined:.0f} % of the resamples of these {unit} too little varies for a correlation"
        return f"{share}, and with more than 5 % there is no interval"
    if found.over_units.side != side and found.clear:
        return f"it holds for these networks whatever the seed, but hangs on which {unit} were chosen"
    return None


def _paired(one: Question, level: float) -> str | None:
    """Why pairs leave it open; None where they do not."""
    if one.flips is None:
        return "no pair was measured with every seed"
    if one.estimate.points == 1:
        return "there is one pair alone, which says nothing of networks trained otherwise"
    if one.flips.least > level:
        count = f"{one.flips.blocks} independent differences, one a seed and architecture,"
        return f"by flips of signs {count} have a p of {one.flips.least:.2g} at least, and {level:.2g} is the limit"
    return None


def _side(found: Estimate) -> int:
    """The side of 0 on which both intervals lie; 0 where there is none."""
    if found.over_seeds is None or found.over_units is None:
        return 0
    return found.over_seeds.side if found.over_seeds.side == found.over_units.side else 0
