"""sum |x - x0| <= eps, inside the box of the surface."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spikeproof.errors import UsageError
from spikeproof.tensors import fold, per_image, signs, sparse_sign, uniform
from spikeproof.threats._ball import Ball

__all__ = ["L1"]


@dataclass(frozen=True)
class L1(Ball):
    """sum |x - x0| <= eps and x in [0,1]; eps may be far above 1.

    share: of the coordinates, those that one step moves, in [0,1] and always at least one. Croce and Hein 2021: a step
    on one coordinate alone is the steepest, and soon stands still at an end of the box.
    """

    share: float = 0.05

    norm: ClassVar[str] = "L1"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.share <= 1:
            raise UsageError("the share of coordinates of an L1 step in [0,1]", self.share)

    def project(self, x: Tensor, x0: Tensor) -> Tensor:
        """The nearest admissible point of ball and box together: each shift shrunk by one number, then clipped."""
        centre = x0.flatten(1).double()
        shift = x.flatten(1).double() - centre
        low, high = self.box
        room = torch.where(shift > 0, high - centre, centre - low)
        kept = torch.minimum((shift.abs() - _shrinkage(shift.abs(), room, self.eps)).clamp(min=0.0), room)
        nearest = (centre + kept * shift.sign()).to(x0.dtype)
        # Thousands of shifts, each rounded away from x0, would leave the ball: round towards x0.
        outward = (nearest.double() - centre).abs() > kept
        return torch.where(outward, torch.nextafter(nearest, x0.flatten(1)), nearest).view_as(x0)

    def ascend(self, gradient: Tensor) -> Tensor:
        """Equal steps on the `share` of steepest coordinates, absolute sum 1; the steepest unit step with share 0."""
        return sparse_sign(gradient, math.ceil(self.share * gradient.shape[1:].numel()))

    def distance(self, x: Tensor, x0: Tensor) -> Tensor:
        """(B,)."""
        return (x - x0).flatten(1).abs().sum(1)

    def sample(self, x0: Tensor, keys: Tensor) -> Tensor:
        """A uniform point of the unit sphere of L1 at a radius uniform in [0, eps], then projected."""
        shape = x0.shape[1:]
        size = -torch.log(1.0 - uniform(fold(keys, "size"), shape))
        shift = size * signs(fold(keys, "sign"), shape) / per_image(x0, self.distance(size, torch.zeros_like(size)))
        return self.project(x0 + shift * per_image(x0, self.eps * uniform(keys, ())), x0)


def _shrinkage(size: Tensor, room: Tensor, eps: float) -> Tensor:
    """The least number >= 0, (B,1), with sum min(max(size - number, 0), room) <= eps; size and room (B,n), float64.

    As the number falls the sum grows in straight pieces: a coordinate begins to count at its size, and is full at
    size - room.
    """
    ends, order = torch.cat([size, size - room], 1).sort(1, descending=True)
    slope = torch.cat([torch.ones_like(size), -torch.ones_like(size)], 1).gather(1, order).cumsum(1)
    total = torch.cat([torch.zeros_like(ends[:, :1]), -ends.diff(dim=1) * slope[:, :-1]], 1).cumsum(1)
    last = ((total <= eps).sum(1, keepdim=True) - 1).clamp(min=0)
    number = ends.gather(1, last) - (eps - total.gather(1, last)) / slope.gather(1, last).clamp(min=1.0)
    return torch.where(total[:, -1:] <= eps, 0.0, number).clamp(min=0.0)
