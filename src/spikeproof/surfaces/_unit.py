"""What surfaces of values in [0,1] share."""

from __future__ import annotations

__all__ = ["UnitBox"]


class UnitBox:
    """Every coordinate of a point lies in [0,1]."""

    @property
    def box(self) -> tuple[float, float]:
        return 0.0, 1.0

    def widest(self, norm: str, size: int) -> float:
        """The eps of the ball that holds the whole box around any of its points: norm Linf, L2 or L1; size: the
        coordinates of one image's point."""
        return {"Linf": 1.0, "L2": float(size**0.5), "L1": float(size)}[norm]
