"""What balls of pixels, and of other surfaces whose coordinates are numbers, have in common."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from spikeproof import parts
from spikeproof.errors import UsageError
from spikeproof.threats._radius import radius
from spikeproof.types import Grid

__all__ = ["Ball"]

_OF_EVENTS = ("flips", "insert", "delete", "polarity", "retime_binf", "retime_b1", "retime_b0")
"""What stands in a ball's place on a grid of whole events."""


@dataclass(frozen=True)
class Ball:
    """Points x (B,*) of a surface's box that lie within eps of x0; UsageError for a grid of whole events.

    eps: a number >= 0 in the surface's units, or a fraction such as '8/255'.
    """

    eps: float
    surface: str = "pixels"

    def __post_init__(self) -> None:
        object.__setattr__(self, "eps", radius(self.eps))
        if isinstance(parts.surface(str(self.surface)), Grid):  # a name that is none is refused here too
            mend = "surface 'relaxed', whose numbers are no attack on a camera; or " + ", ".join(_OF_EVENTS)
            raise UsageError(f"a threat of whole events on {self.surface!r}", type(self).__name__, mend=mend)

    @property
    def box(self) -> tuple[float, float]:
        """The least and the largest value of a coordinate on the surface."""
        return parts.surface(self.surface).box

    def scaled(self, share: float) -> Self:
        """The same ball with `share` >= 0 of its radius."""
        return replace(self, eps=share * self.eps)
