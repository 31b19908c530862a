"""The attacks that need no thought, by the kind of threat: what an evaluator would run, and what chance would."""

from __future__ import annotations

from torch import Tensor

from spikeproof.attacks.pgd import PGD
from spikeproof.attacks.random_corners import RandomCorners
from spikeproof.attacks.random_events import RandomEvents
from spikeproof.attacks.top_events import TopEvents
from spikeproof.types import EventThreat, Threat

__all__ = ["at_random", "coordinates", "furthest", "plain_attack", "plain_names"]


def plain_attack(threat: Threat, steps: int) -> PGD | TopEvents:
    """Many steps along the gradient."""
    return TopEvents(steps) if isinstance(threat, EventThreat) else PGD(steps=steps)


def plain_names(threat: Threat) -> tuple[str, str]:
    """What the one step and the many are called."""
    return ("the top events of one gradient", "top events in rounds") if _whole(threat) else ("FGSM", "PGD")


def coordinates(threat: Threat) -> str:
    """What the attacker changes."""
    return "cells" if _whole(threat) else "pixels"


def _whole(threat: Threat) -> bool:
    return isinstance(threat, EventThreat)


def at_random(threat: Threat, draws: int) -> RandomCorners | RandomEvents:
    """The best of many points that chance chooses."""
    return RandomEvents(draws) if isinstance(threat, EventThreat) else RandomCorners(draws)


def furthest(threat: Threat, direction: Tensor, x0: Tensor, share: float = 1.0) -> Tensor:
    """Where a direction (B,*) leads from x0 (B,*) with a share of the budget: the step along it, or its best moves."""
    if isinstance(threat, EventThreat):
        return threat.scaled(share).best(direction, x0)
    return threat.project(x0 + share * threat.eps * threat.ascend(direction), x0)
