"""What the attacker may do: a ball around the clean point, inside the box of one surface, [0,1].

A threat names its surface, which `spikeproof.parts.surface` finds by its file: where the attacker acts, what a point is
and how large the box. The geometry is the same for all. `spikeproof.victims.scene` puts the objective on the surface.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar, Self

import torch
from torch import Tensor

from spikeproof import parts
from spikeproof.errors import UsageError
from spikeproof.limits import NUMBER_CHARACTERS
from spikeproof.tensors import fold, normal, per_image, signs, sparse_sign, uniform

__all__ = ["L1", "L2", "Linf"]


def radius(eps: float | str) -> float:
    """'8/255' or 0.03 -> a float; what is not a number >= 0 raises UsageError.

    >>> radius("8/255") == 8 / 255
    True
    """
    try:
        value = _fraction(eps) if isinstance(eps, str) else float(eps)
    except OverflowError:
        value = math.inf
    except (TypeError, ValueError, ZeroDivisionError):
        value = math.nan
    if not 0 <= value < math.inf:
        got = eps[:NUMBER_CHARACTERS] if isinstance(eps, str) else value if value == math.inf else eps
        raise UsageError("eps as a number >= 0 in units of [0,1], such as 8/255", repr(got))
    return value


def _fraction(text: str) -> float:
    if len(text) > NUMBER_CHARACTERS:
        raise ValueError
    # Only what has a slash is read exactly: the exact value of 1e99999999 would fill the memory.
    return float(Fraction(text) if "/" in text else text)


@dataclass(frozen=True)
class _Ball:
    eps: float
    surface: str = "pixels"

    def __post_init__(self) -> None:
        object.__setattr__(self, "eps", radius(self.eps))
        parts.surface(str(self.surface))  # refuses a name that is none

    @property
    def box(self) -> tuple[float, float]:
        """The least and the largest value of a coordinate on the surface."""
        return parts.surface(self.surface).box

    def scaled(self, share: float) -> Self:
        """The same ball with `share` >= 0 of its radius."""
        return replace(self, eps=share * self.eps)


@dataclass(frozen=True)
class Linf(_Ball):
    """max |x - x0| <= eps and x in [0,1]. eps: a float, or a fraction such as '8/255'."""

    norm: ClassVar[str] = "Linf"

    def project(self, x: Tensor, x0: Tensor) -> Tensor:
        """The nearest admissible point; all shapes (B,*)."""
        low, high = self.box
        return torch.clamp(x, (x0 - self.eps).clamp(min=low), (x0 + self.eps).clamp(max=high))

    def ascend(self, gradient: Tensor) -> Tensor:
        """Steepest unit step: the sign; 0 where the gradient is exactly 0."""
        return gradient.sign()

    def distance(self, x: Tensor, x0: Tensor) -> Tensor:
        """(B,)."""
        return (x - x0).flatten(1).abs().amax(1)

    def sample(self, x0: Tensor, keys: Tensor) -> Tensor:
        """Uniform in the ball, then clipped to the box."""
        return self.project(x0 + self.eps * (2.0 * uniform(keys, x0.shape[1:]) - 1.0), x0)


@dataclass(frozen=True)
class L2(_Ball):
    """||x - x0||_2 <= eps and x in [0,1]."""

    norm: ClassVar[str] = "L2"

    def project(self, x: Tensor, x0: Tensor) -> Tensor:
        """Scale into the ball, then clip to the box: admissible, and the field's standard; not the nearest point where
        both bind. Clipping towards a box that contains x0 only shortens the way, so the ball still holds."""
        scale = self.eps / self.distance(x, x0).clamp(min=self.eps).clamp(min=1e-30)
        return (x0 + (x - x0) * per_image(x, scale)).clamp(*self.box)

    def ascend(self, gradient: Tensor) -> Tensor:
        """g / ||g||; an all-zero gradient stays zero."""
        # In units of its largest entry first: the square of a small float32 gradient is 0.
        largest = gradient.flatten(1).abs().amax(1).clamp(min=torch.finfo(gradient.dtype).tiny)
        g = gradient / per_image(gradient, largest)
        return g / per_image(g, g.flatten(1).norm(dim=1).clamp(min=1e-30))

    def distance(self, x: Tensor, x0: Tensor) -> Tensor:
        """(B,)."""
        return (x - x0).flatten(1).square().sum(1).sqrt()

    def sample(self, x0: Tensor, keys: Tensor) -> Tensor:
        """A Gaussian direction at a radius uniform in [0, eps], then clipped to the box."""
        direction = self.ascend(normal(keys, x0.shape[1:]))
        return self.project(x0 + direction * per_image(x0, self.eps * uniform(keys, ())), x0)


@dataclass(frozen=True)
class L1(_Ball):
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
        return sparse_sign(gradient, math.ceil(self.share * gradient[0].numel()))

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
