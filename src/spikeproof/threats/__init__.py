"""What the attacker may do: a ball around the clean point, inside the box of one surface, or moves of whole events.

A threat names its surface, which `spikeproof.parts.surface` finds by its file: where the attacker acts, what a point is
and how large the box. The geometry is the same for all. `spikeproof.victims.scene` puts the objective on the surface.

Each is a file, as every part is, and an attribute here too: `from spikeproof.threats import Linf`. That reads no file
but its own, so that a key of a cell holds the threats that it runs, and a user's file may import others.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from spikeproof import parts

if TYPE_CHECKING:
    from spikeproof.threats.counts import Counts
    from spikeproof.threats.delete import Delete
    from spikeproof.threats.flips import Flips
    from spikeproof.threats.insert import Insert
    from spikeproof.threats.l1 import L1
    from spikeproof.threats.l2 import L2
    from spikeproof.threats.linf import Linf
    from spikeproof.threats.polarity import Polarity
    from spikeproof.threats.retime_b0 import RetimeB0
    from spikeproof.threats.retime_b1 import RetimeB1
    from spikeproof.threats.retime_binf import RetimeBinf

__all__ = [
    "L1", "L2", "Counts", "Delete", "Flips", "Insert", "Linf", "Polarity", "RetimeB0", "RetimeB1", "RetimeBinf",
]  # fmt: skip

if not TYPE_CHECKING:  # a checker would take it to give any name whatever

    def __getattr__(name: str) -> object:
        """A threat by the name of its class, a user's too: that of RetimeB0 lies in retime_b0.py."""
        part = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
        if not name.startswith("_") and part in parts.names("threats"):
            found = parts.find("threats", part)
            if found.__name__ == name:
                return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
