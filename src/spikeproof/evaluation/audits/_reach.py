"""Whether a threat of unlimited budget reaches every point: else a network may stand, and rightly."""

from __future__ import annotations

from spikeproof.types import EventThreat, Threat

__all__ = ["falls_short"]


def falls_short(threat: Threat) -> str:
    """Why it does not; '' where it does, as every ball."""
    if isinstance(threat, EventThreat) and not threat.reaches_all:
        return f"{threat.norm} without a limit do not reach every grid"
    return ""
