"""What the attacker may do: a ball around the clean point, inside the box of one surface, or moves of whole events.

A threat names its surface, which `spikeproof.parts.surface` finds by its file: where the attacker acts, what a point is
and how large the box. The geometry is the same for all. `spikeproof.victims.scene` puts the objective on the surface.

Each is a file, as every part is, and each is an attribute here too: `from spikeproof.threats import Linf`.
"""

from __future__ import annotations

from typing import Any

from spikeproof import parts


def __getattr__(name: str) -> Any:
    """A threat by the name of its class; its file is read when it is asked for."""
    for part in parts.names("threats"):
        if (found := parts.find("threats", part)).__name__ == name:
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
