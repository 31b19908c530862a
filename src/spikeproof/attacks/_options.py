"""What several attacks ask of their options: counts of at least one, and the targets of a targeted attack."""

from __future__ import annotations

from spikeproof.errors import UsageError
from spikeproof.types import EventThreat, Objective, Threat

__all__ = ["at_least_one", "check_ball", "check_targets", "ranks"]


def at_least_one(**counts: int) -> None:
    """UsageError that names every count, unless each is 1 or more."""
    if min(counts.values()) < 1:
        expected = " and ".join(f"{name} >= 1" for name in counts)
        raise UsageError(expected, ", ".join(f"{name}={value}" for name, value in counts.items()))


def check_ball(threat: Threat) -> None:
    """UsageError for a threat of whole events, in which no step has a length."""
    if isinstance(threat, EventThreat):
        mend = "take top_events, swap_search, random_swaps or random_events; or for retimes retiming"
        raise UsageError("a ball, for an attack that goes step by step", threat.norm, mend=mend)


def check_targets(targets: int) -> None:
    """UsageError unless it is 0 (untargeted) or a number of target classes."""
    if targets < 0:
        raise UsageError("targets >= 0; 0 is untargeted", targets)


def ranks(f: Objective, targets: int) -> range:
    """The clean ranks of the likeliest wrong classes, `targets` of them or as many as there are: 1, 2, ..."""
    return range(1, min(targets, f.classes - 1) + 1)
