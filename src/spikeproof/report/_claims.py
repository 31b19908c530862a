"""The verdict on each claim, by one rule from the numbers; nothing here is written by hand for a study.

**The rule.** Each claim names one number in advance, with a sign. It is *supported* where the whole 95 % interval over
seeds and the whole 95 % interval over configurations lie on the claimed side of 0, *contradicted* where both lie on the
other side, and *undecided* in every other case, with the reason. Differences between pools are paired and the pool is
the only thing that was changed, so there the interval over seeds decides alone.

**What the number is.** The shape is the Gini index and the scale the l1 norm of the cross-entropy gradient at the image
(batch-norm in eval mode); robust accuracy is the worst case at the headline; generalisation is clean test accuracy. Any
other measure is shown and decides nothing, so that trying twenty cannot find one that fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from spikeproof.metrics.resampling import ENOUGH, SEEDS, Estimate

__all__ = [
    "CONTRADICTED", "MANY", "REPLICATES", "SCALE", "SEED", "SHAPE", "SUPPORTED", "UNDECIDED", "Claim", "decide",
    "leads", "unless_apart",
]  # fmt: skip

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"

SHAPE = ("image", "gini")
SCALE = ("image", "l1")
"""Site and measure that stand for sparsity and for the gradient's scale in every claim."""

MANY = 0.25
"""Share of networks with an unsettled robust accuracy from which a verdict on robustness carries a caution."""

REPLICATES = 1000
SEED = 0
"""Resamples of each interval over configurations, and the seed they are drawn with."""


class Claim(NamedTuple):
    """A claim, the number that decides it with its intervals, the verdict, and why.

    `about` is what it is a claim on; a `paired` one compares networks in pairs, so that the seeds decide alone.
    """

    about: Literal["robustness", "generalisation", "sparsity"]
    paired: bool
    says: str
    number: str
    estimate: Estimate
    verdict: str
    why: str


def decide(found: Estimate, sign: int, unit: str | None, missing: str) -> tuple[str, str]:
    """The verdict and its reason. `sign` is the claimed side of 0; `unit` is what the interval over configurations
    resampled, None where it has no say; `missing` is the reason where there is no number."""
    if found.value is None:
        return UNDECIDED, missing
    if found.over_seeds is None:
        return UNDECIDED, f"{found.seeds} of the {SEEDS} seeds that an interval needs"
    side = found.over_seeds.side
    if side == 0:
        return UNDECIDED, "the interval over seeds holds 0: other seeds could turn it round"
    if unit is not None:
        if found.over_units is None:
            return UNDECIDED, f"fewer than {ENOUGH} {unit} with a defined correlation, so none is resampled"
        if found.over_units.side != side:
            return UNDECIDED, f"it holds for these networks whatever the seed, but hangs on which {unit} were chosen"
    where = "above" if side > 0 else "below"
    how = f"the interval over seeds lies {where} 0" if unit is None else f"both intervals lie {where} 0"
    return (SUPPORTED if side == sign else CONTRADICTED), how


def unless_apart(pooled: tuple[str, str], each: Sequence[str]) -> tuple[str, str]:
    """The pooled verdict, undecided where one architecture alone supports the claim and another contradicts it."""
    if {SUPPORTED, CONTRADICTED} <= set(each):
        return UNDECIDED, "one architecture supports it and another contradicts it"
    return pooled


def leads(lead: Estimate, scale: Estimate, shape: Estimate, unit: str, missing: str) -> tuple[str, str]:
    """Scale rather than shape: supported where scale says more than shape and less scale goes with the outcome,
    contradicted where shape says more than scale and more of it goes with the outcome."""
    word, why = decide(lead, 1, unit, missing)
    if word == UNDECIDED:
        return word, why
    own, sign, name = (scale, -1, "a smaller scale") if word == SUPPORTED else (shape, 1, "a sparser shape")
    if decide(own, sign, unit, missing)[0] != SUPPORTED:
        return UNDECIDED, f"one says more than the other, but {name} does not go with more robustness for sure"
    return word, f"{why}, and {name} goes with more robustness by both of its own"
