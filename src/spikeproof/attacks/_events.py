"""What attacks that move whole events ask of their threat."""

from __future__ import annotations

import torch

from spikeproof.errors import UsageError
from spikeproof.types import EventThreat, FreeMoves, RetimeThreat, Threat

__all__ = ["event_threat", "free_moves", "reach", "retime_threat"]


def event_threat(threat: Threat, attack: str) -> EventThreat:
    """The threat, which must be one of whole events; UsageError for a ball."""
    if not isinstance(threat, EventThreat):
        norms = "flips, insert, delete, polarity, retime_binf, retime_b1 or retime_b0"
        mend = f"set norm to {norms}, and surface to 'events'; or counts on 'counts'"
        raise UsageError(f"a threat of whole events for {attack}", threat.norm, mend=mend)
    return threat


def free_moves(threat: Threat, attack: str) -> FreeMoves:
    """The threat, which must be one of moves that are free of each other; UsageError for any other."""
    if not isinstance(threat, FreeMoves):
        mend = "set norm to flips, insert, delete or polarity, and surface to 'events'; or take retiming or top_events"
        raise UsageError(f"a threat of free moves for {attack}", threat.norm, mend=mend)
    return threat


def retime_threat(threat: Threat, attack: str) -> RetimeThreat:
    """The threat, which must be one of events at other times; UsageError for any other."""
    if not isinstance(threat, RetimeThreat):
        mend = "set norm to retime_binf, retime_b1 or retime_b0, and surface to 'events'"
        raise UsageError(f"a threat of retimed events for {attack}", threat.norm, mend=mend)
    return threat


def reach(threat: RetimeThreat, steps: int) -> int:
    """The most bins, of so many steps, that one event can be from where it was."""
    return int((threat.one_move(torch.arange(steps)) <= threat.eps).sum()) - 1
