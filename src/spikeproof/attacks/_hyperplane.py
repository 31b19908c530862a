"""The shortest way onto a hyperplane that stays in the box [0,1], for L-inf, L2 and L1 (Croce and Hein 2020, FAB).

Each coordinate can only help by moving in the sign of its weight, and only as far as the box lets it, its room. In
L-inf all move alike and in L2 in proportion to their weight, until they meet the box; in L1 the heaviest goes first.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["dual_norm", "onto"]


def dual_norm(w: Tensor, norm: str) -> Tensor:
    """What divides |f| to give the distance to the plane f + w . d = 0 without a box: (B,*) -> (B,) float64."""
    flat = w.flatten(1).double().abs()
    return {"Linf": flat.sum(1), "L2": flat.square().sum(1).sqrt(), "L1": flat.amax(1)}[norm]


def onto(x: Tensor, w: Tensor, gain: Tensor, norm: str) -> Tensor:
    """The shortest shift d (B,*) with w . d = gain (B,) and x + d in [0,1]; x, w (B,*).

    Where the box leaves no such shift, the one that comes nearest to the gain; zero where w is.
    """
    towards = w.flatten(1).double() * gain.double().sign()[:, None]
    here = x.flatten(1).double()
    room = torch.where(towards > 0, 1.0 - here, here).clamp(min=0.0)
    weight, need = towards.abs(), gain.double().abs()[:, None]
    way = _heaviest_first(weight, room, need) if norm == "L1" else _all_at_once(weight, room, need, norm)
    return (way * towards.sign()).view_as(x).to(x)


def _heaviest_first(weight: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """How far each coordinate goes, (B,n): all its room, heaviest first, until weight . way = need (B,1)."""
    weight, order = weight.sort(dim=1, descending=True, stable=True)
    full = weight * room.gather(1, order)
    left = (need - _before(full)).clamp(min=0.0)
    way = torch.minimum(left, full) / weight.clamp(min=torch.finfo(weight.dtype).tiny)
    return torch.zeros_like(way).scatter(1, order, way)


def _all_at_once(weight: Tensor, room: Tensor, need: Tensor, norm: str) -> Tensor:
    """How far each goes, (B,n): min(t speed, room), with the t at which weight . way = need (B,1)."""
    speed = weight if norm == "L2" else (weight > 0).to(weight)
    moving = speed > 0
    meets = torch.where(moving, room / torch.where(moving, speed, 1.0), 0.0)  # the t at which it meets the box
    meets, order = meets.sort(1)
    full, rate = (weight * room).gather(1, order), (weight * speed).gather(1, order)
    before = _before(full)  # gained by those that stand, when the next one meets the box
    rates = rate.flip(1).cumsum(1).flip(1)  # gained by a unit of t, until then
    first = (before + meets * rates < need).sum(1, keepdim=True).clamp(max=meets.shape[1] - 1)
    at = [values.gather(1, first) for values in (before, rates, meets)]
    t = torch.where(at[1] > 0, (need - at[0]) / at[1], 0.0).clamp(min=0.0)
    return torch.minimum(torch.minimum(t, at[2]) * speed, room)


def _before(values: Tensor) -> Tensor:
    """The sum of those before each, (B,n). Not the sum up to it less itself: beside a large one the small are lost."""
    return F.pad(values.cumsum(1)[:, :-1], (1, 0))
