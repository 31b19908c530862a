"""Which search goes through the points of a threat of whole events."""

from __future__ import annotations

from torch import Tensor

from spikeproof.attacks._retimes import Retimes
from spikeproof.attacks._swaps import Swaps
from spikeproof.attacks._walk import Walk
from spikeproof.errors import UsageError
from spikeproof.types import EventThreat, FreeMoves, Objective, RetimeThreat

__all__ = ["walk_from"]


def walk_from(f: Objective, x0: Tensor, threat: EventThreat, keys: Tensor, x: Tensor, queries: int) -> Walk:
    """The search of images x0 (B,*) from the admissible points x (B,*), each with so many queries."""
    if isinstance(threat, FreeMoves):
        return Swaps(f, x0, threat, keys, x, queries)
    if isinstance(threat, RetimeThreat):
        return Retimes(f, x0, threat, keys, x, queries)
    raise UsageError("a threat of free moves or of retimed events, for a search", threat.norm)
