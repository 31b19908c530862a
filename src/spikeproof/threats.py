"""What the attacker may do: a ball around the clean point, inside the box of one surface, or moves of whole events.

A threat names its surface, which `spikeproof.parts.surface` finds by its file: where the attacker acts, what a point is
and how large the box. The geometry is the same for all. `spikeproof.victims.scene` puts the objective on the surface.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar, Self

import torch
from torch import Tensor

from spikeproof import parts
from spikeproof.errors import UsageError
from spikeproof.limits import NUMBER_CHARACTERS
from spikeproof.retiming import best_moved, best_within, fewest, longest, most_swapped, same_counts, surplus_bounds
from spikeproof.tensors import fold, normal, per_image, signs, sparse_sign, uniform
from spikeproof.types import Grid

__all__ = [
    "L1", "L2", "Counts", "Delete", "Flips", "Insert", "Linf", "Polarity", "RetimeB0", "RetimeB1", "RetimeBinf",
]  # fmt: skip


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


@dataclass(frozen=True)
class _Whole(ABC):
    """A whole number of events, or of bins, on a grid of whole events."""

    eps: float
    surface: str = "events"

    unit: ClassVar[str] = "events"  # what eps is a number of
    counted: ClassVar[bool] = False  # on grids of counts, not of ones and zeros
    reaches_all: ClassVar[bool] = False
    norm: ClassVar[str]

    def __post_init__(self) -> None:
        eps = radius(self.eps)
        if eps != int(eps):
            raise UsageError(f"a whole number of {self.unit} for {self.norm}", repr(self.eps), mend="for example 20")
        object.__setattr__(self, "eps", eps)
        surface = parts.surface(str(self.surface))
        if not isinstance(surface, Grid) or (surface.quantum < 1) != self.counted:
            mend = f"set the surface to {'counts' if self.counted else 'events'!r}"
            raise UsageError(
                f"a grid of {'counts' if self.counted else 'events'} for {self.norm}", self.surface, mend=mend
            )

    @property
    def box(self) -> tuple[float, float]:
        """The least and the largest value of a cell."""
        return parts.surface(self.surface).box

    @abstractmethod
    def best(self, gradient: Tensor, x0: Tensor) -> Tensor:
        """The admissible point (B,*) of the largest sum of gradient (x - x0)."""

    def _towards(self, x: Tensor, x0: Tensor) -> Tensor:
        """A gradient whose best point is the admissible point nearest to x; all (B,*)."""
        # |x' - x|^2 is that of an empty grid less the sum of (2 x - 1) x', for x' of ones and zeros.
        return 2.0 * x - 1.0

    def project(self, x: Tensor, x0: Tensor) -> Tensor:
        """The nearest admissible point; where two are, the one with fewer moves, and of equal moves the first."""
        return self.best(self._towards(x, x0), x0)

    def ascend(self, gradient: Tensor) -> Tensor:
        """The steepest coordinate alone, by 1, all those that tie with it sharing that; zeros stay zeros."""
        return sparse_sign(gradient, 1)

    def scaled(self, share: float) -> Self:
        """The same with `share` >= 0 of its budget, rounded down."""
        return replace(self, eps=float(math.floor(share * self.eps + 1e-9)))  # a third of three is one


@dataclass(frozen=True)
class _Moves(_Whole):
    """At most eps moves, each of a unit of its own: a cell, or the two cells of one place. A move is made or not, so
    what is best for a linear loss, or nearest to a point, is the choice of the largest gains, exactly."""

    @abstractmethod
    def gains(self, gradient: Tensor, x0: Tensor) -> Tensor:
        """What each unit's move adds to a linear loss of this gradient, -inf where there is no move: (B,units)."""

    @abstractmethod
    def _moved(self, way: Tensor, x0: Tensor) -> Tensor:
        """The grid (B,*) with every move made that there is, the way (B,*) up or down where it can be either."""

    def per_unit(self, values: Tensor) -> Tensor:
        """Values (B,*) of cells, added up in each unit: (B,units)."""
        return values.flatten(1)

    def _cells(self, units: Tensor, x0: Tensor) -> Tensor:
        """Units (B,units) bool -> the cells that they are made of, (B,*) bool."""
        return units.view_as(x0)

    def moved(self, units: Tensor, way: Tensor, x0: Tensor) -> Tensor:
        """x0 (B,*) with the moves of some units (B,units) bool, which must be there; the way (B,*): of its sign, where
        a move can be either."""
        return torch.where(self._cells(units, x0), self._moved(way, x0), x0)

    def _chosen(self, worth: Tensor) -> Tensor:
        """The units (B,units) bool of the largest worth above 0, eps at most, the first of equal ones."""
        most = min(int(self.eps), worth.shape[1])
        order = worth.sort(dim=1, descending=True, stable=True).indices[:, :most]
        return torch.zeros_like(worth, dtype=torch.bool).scatter_(1, order, True) & (worth > 0)

    def best(self, gradient: Tensor, x0: Tensor) -> Tensor:
        """The admissible point (B,*) of the largest sum of gradient (x - x0)."""
        return self.moved(self._chosen(self.gains(gradient, x0)), gradient, x0)

    def sample(self, x0: Tensor, keys: Tensor) -> Tensor:
        """eps moves at random, all where there are fewer; every set of them is as likely."""
        way = signs(fold(keys, "way"), x0.shape[1:]).to(x0)
        there = torch.isfinite(self.gains(way, x0))
        drawn = 1.0 - uniform(fold(keys, "moves"), there.shape[1:]).to(x0)
        return self.moved(self._chosen(torch.where(there, drawn, float("-inf"))), way, x0)


@dataclass(frozen=True)
class Flips(_Moves):
    """At most eps cells of a grid of ones and zeros changed: events added or taken away (L0)."""

    norm: ClassVar[str] = "flips"
    reaches_all: ClassVar[bool] = True

    def gains(self, gradient: Tensor, x0: Tensor) -> Tensor:
        return (gradient * (1.0 - 2.0 * x0)).flatten(1)

    def _moved(self, way: Tensor, x0: Tensor) -> Tensor:
        return 1.0 - x0

    def distance(self, x: Tensor, x0: Tensor) -> Tensor:
        """How many cells differ, (B,)."""
        return _count(x != x0, x0)


@dataclass(frozen=True)
class Insert(_Moves):
    """At most eps events added to a grid of ones and zeros; none is taken away."""

    norm: ClassVar[str] = "insert"

    def gains(self, gradient: Tensor, x0: Tensor) -> Tensor:
        return torch.where(x0 == 0, gradient, float("-inf")).flatten(1)

    def _moved(self, way: Tensor, x0: Tensor) -> Tensor:
        return torch.ones_like(x0)

    def distance(self, x: Tensor, x0: Tensor) -> Tensor:
        """How many events are new, (B,); infinite where one is gone."""
        return _unless(x < x0, _count(x != x0, x0))


@dataclass(frozen=True)
class Delete(_Moves):
    """At most eps events taken away from a grid of ones and zeros; none is added."""

    norm: ClassVar[str] = "delete"

    def gains(self, gradient: Tensor, x0: Tensor) -> Tensor:
        return torch.where(x0 == 1, -gradient, float("-inf")).flatten(1)

    def _moved(self, way: Tensor, x0: Tensor) -> Tensor:
        return torch.zeros_like(x0)

    def distance(self, x: Tensor, x0: Tensor) -> Tensor:
        """How many events are gone, (B,); infinite where one is new."""
        return _unless(x > x0, _count(x != x0, x0))


@dataclass(frozen=True)
class Polarity(_Moves):
    """At most eps events of a grid (B,T,2,H,W) of ones and zeros turned into the other polarity, where that is free."""

    norm: ClassVar[str] = "polarity"

    def gains(self, gradient: Tensor, x0: Tensor) -> Tensor:
        (off, on), (g_off, g_on) = _polarities(x0), _polarities(gradient)
        return torch.where(off != on, (g_on - g_off) * (off - on), float("-inf")).flatten(1)

    def _moved(self, way: Tensor, x0: Tensor) -> Tensor:
        return x0.flip(-3)

    def per_unit(self, values: Tensor) -> Tensor:
        return values.sum(-3).flatten(1)

    def _cells(self, units: Tensor, x0: Tensor) -> Tensor:
        one = x0.narrow(-3, 0, 1)
        return units.view_as(one).expand_as(x0)

    def distance(self, x: Tensor, x0: Tensor) -> Tensor:
        """How many events have turned, (B,); infinite where anything else has changed."""
        (off, on), (off0, on0) = _polarities(x), _polarities(x0)
        other = (off != off0) | (on != on0)
        return _unless(other & ((off != on0) | (on != off0)), _count(other, x0))


@dataclass(frozen=True)
class Counts(_Moves):
    """At most eps cells of a grid of counts changed, each by one event, and none below 0 or above 255."""

    surface: str = "counts"

    norm: ClassVar[str] = "counts"
    counted: ClassVar[bool] = True

    @property
    def _most(self) -> int:
        """Events that a cell can hold: what the data divide a count by."""
        surface = parts.surface(self.surface)
        assert isinstance(surface, Grid)  # or it had been refused
        return round(1.0 / surface.quantum)

    def gains(self, gradient: Tensor, x0: Tensor) -> Tensor:
        low, high = self.box
        room = torch.where(gradient > 0, x0 < high, x0 > low)
        return torch.where(room, gradient.abs(), float("-inf")).flatten(1)

    def _moved(self, way: Tensor, x0: Tensor) -> Tensor:
        return ((x0 * self._most).round() + way.sign()) / self._most

    def _towards(self, x: Tensor, x0: Tensor) -> Tensor:
        # One event nearer to x saves (s^2 - (s - 1)^2) = 2 s - 1, where s events are between.
        events = (x - x0) * self._most
        return events.sign() * (2.0 * events.abs() - 1.0).clamp(min=0.0)

    def distance(self, x: Tensor, x0: Tensor) -> Tensor:
        """How many cells differ, (B,); infinite where one does by more than an event."""
        return _unless((x - x0).abs() * self._most > 1.5, _count(x != x0, x0))


@dataclass(frozen=True)
class _Retime(_Whole):
    """Events of a grid (B,T,*) of ones and zeros at other times: each stays in its line, its place and polarity, no two
    end in one cell, and none is lost or new. What a move costs is counted between the grids, with the order of a line's
    events kept, which is never dearer than another (`retiming`).

    The published threat moves packets of any size and knows each by name; here cells hold one event or none.
    """

    adds_up: ClassVar[bool] = True

    @abstractmethod
    def line_costs(self, lines: Tensor, clean: Tensor) -> Tensor:
        """What each line of grids (B,T,L) costs, (B,L); every line has the events that it had."""

    def one_move(self, bins: Tensor) -> Tensor:
        """What it costs to move one event by so many bins, 0 or more."""
        return bins

    def room(self, lines: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Whether up to each cell there may be one event more, and one less: (B,T,L) bool, where eps bounds a line."""
        return torch.ones_like(lines, dtype=torch.bool), torch.ones_like(lines, dtype=torch.bool)

    @abstractmethod
    def _best(self, gradient: Tensor, x0: Tensor) -> Tensor:
        """As `best`, on grids (B,T,L)."""

    def best(self, gradient: Tensor, x0: Tensor) -> Tensor:
        return self._best(_lines(gradient, self.norm), _lines(x0, self.norm)).view_as(x0)

    def distance(self, x: Tensor, x0: Tensor) -> Tensor:
        """(B,), infinite where a line has lost an event or got one."""
        lines, clean = _lines(x, self.norm), _lines(x0, self.norm)
        costs = self.line_costs(lines, clean)
        spent = costs.sum(1) if self.adds_up else costs.amax(1)
        return spent.masked_fill(~same_counts(lines, clean), float("inf"))

    def sample(self, x0: Tensor, keys: Tensor) -> Tensor:
        """The best point of a random gradient, which spends all that can be spent; not every point is as likely."""
        return self.best(uniform(fold(keys, "moves"), x0.shape[1:]).to(x0) - 0.5, x0)


@dataclass(frozen=True)
class RetimeBinf(_Retime):
    """No event moves by more than eps bins."""

    norm: ClassVar[str] = "retime_binf"
    unit: ClassVar[str] = "bins"
    adds_up: ClassVar[bool] = False

    def line_costs(self, lines: Tensor, clean: Tensor) -> Tensor:
        return longest(lines, clean)

    def room(self, lines: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
        low, high = surplus_bounds(clean, int(self.eps))
        surplus = (lines - clean).cumsum(1)
        return surplus < high, surplus > low

    def _best(self, gradient: Tensor, x0: Tensor) -> Tensor:
        return best_within(gradient, x0, int(self.eps))


@dataclass(frozen=True)
class RetimeB1(_Retime):
    """The moves of all events add up to eps bins at most."""

    norm: ClassVar[str] = "retime_b1"
    unit: ClassVar[str] = "bins"

    def line_costs(self, lines: Tensor, clean: Tensor) -> Tensor:
        return fewest(lines, clean)

    def _best(self, gradient: Tensor, x0: Tensor) -> Tensor:
        return best_moved(gradient, x0, int(self.eps))


@dataclass(frozen=True)
class RetimeB0(_Retime):
    """At most eps events are at another time, however far."""

    norm: ClassVar[str] = "retime_b0"

    def line_costs(self, lines: Tensor, clean: Tensor) -> Tensor:
        return (lines < clean).sum(1).to(clean)

    def one_move(self, bins: Tensor) -> Tensor:
        return (bins > 0).to(bins)

    def _best(self, gradient: Tensor, x0: Tensor) -> Tensor:
        return most_swapped(gradient, x0, min(int(self.eps), x0.shape[1:].numel()))


_OF_EVENTS = ("flips", "insert", "delete", "polarity", "retime_binf", "retime_b1", "retime_b0")


def _count(cells: Tensor, x0: Tensor) -> Tensor:
    return cells.flatten(1).sum(1).to(x0)


def _unless(wrong: Tensor, distance: Tensor) -> Tensor:
    """The distance (B,), infinite where anything is wrong, (B,*) bool."""
    return distance.masked_fill(wrong.flatten(1).any(1), float("inf"))


def _polarities(x: Tensor) -> tuple[Tensor, Tensor]:
    """Grids (B,*,2,H,W) -> the cells of both polarities, (B,*,H,W) each."""
    if x.dim() < 4 or x.shape[-3] != 2:
        raise UsageError("grids (B,T,2,H,W), of two polarities, for polarity", f"shape {tuple(x.shape)}")
    return x.select(-3, 0), x.select(-3, 1)


def _lines(x: Tensor, norm: str) -> Tensor:
    """Grids (B,T,*) -> (B,T,L)."""
    if x.dim() < 3:
        raise UsageError(f"grids (B,T,2,H,W), of events over time, for {norm}", f"shape {tuple(x.shape)}")
    return x.flatten(2)
