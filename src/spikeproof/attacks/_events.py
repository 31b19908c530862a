"""What attacks that move whole events ask of their threat."""

from __future__ import annotations

import torch

from spikeproof.errors import UsageError
from spikeproof.types import EventThreat, RetimeThreat, Threat

__all__ = ["event_threat", "reach", "retime_threat"]


def event_threat(threat: Threat, attack: str) -> EventThreat:
    """The threat, which must be one of whole events; UsageError for a ball."""
    if not isinstance(threat, EventThreat):
        mend = "set norm to flips, insert, delete, polarity or a retime, and surface to 'events'; or counts on 'counts'"
        raise UsageError(f"a threat of whole events for {attack}", threat.norm, mend=mend)
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
