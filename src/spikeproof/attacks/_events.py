"""What attacks that move whole events ask of their threat."""

from __future__ import annotations

from spikeproof.errors import UsageError
from spikeproof.types import EventThreat, Threat

__all__ = ["event_threat"]


def event_threat(threat: Threat, attack: str) -> EventThreat:
    """The threat, which must be one of whole events; UsageError for a ball."""
    if not isinstance(threat, EventThreat):
        mend = "set norm to flips, insert, delete or polarity, and surface to 'events'; or counts on 'counts'"
        raise UsageError(f"a threat of whole events for {attack}", threat.norm, mend=mend)
    return threat
