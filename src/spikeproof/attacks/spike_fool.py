"""SpikeFool: the nearest boundary of the relaxed grid, crossed by as few whole events as its plane asks for.

After Buechel, Lenz, Hu, Sheik and Sorbaro, "Adversarial attacks on spiking convolutional neural networks for
event-based vision" (2022), who take SparseFool (Modas et al. 2019) to spikes. Departures: events are added or taken
away whole instead of moved by parts and rounded at the end, which can undo them; any threat of free moves, with its
budget; gradients are any estimator's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from spikeproof.attacks._best import Best
from spikeproof.attacks._events import free_moves
from spikeproof.attacks._options import at_least_one, ranks
from spikeproof.errors import UsageError
from spikeproof.tensors import exact, per_image
from spikeproof.types import Estimator, FreeMoves, Objective, Threat

__all__ = ["SpikeFool"]

_OVER = 1e-3
"""How far beyond the plane, in units of the loss."""


class _Plane(NamedTuple):
    """Where the boundary is met, point (n,*), and its normal there, (n,*), towards the other class."""

    point: Tensor
    normal: Tensor


@dataclass(frozen=True)
class SpikeFool:
    """rounds >= 1: each looks for the boundary from the grid that it has, by `steps` >= 1 relaxed DeepFool steps, and
    makes the fewest moves that cross the plane there, of all that the clean grid has, the steepest first.

    targets >= 1: how many of the likeliest other classes are looked at, a gradient each. overshoot >= 0 of a relaxed
    step; reach >= 1: by how much more than the way to the boundary the plane is put off.
    """

    asks_gradient: ClassVar[bool] = True
    rounds: int = 4
    steps: int = 10
    targets: int = 3
    overshoot: float = 0.02
    reach: float = 2.0

    def __post_init__(self) -> None:
        at_least_one(rounds=self.rounds, steps=self.steps, targets=self.targets)
        if not self.overshoot >= 0 or not self.reach >= 1:
            raise UsageError("overshoot >= 0 and reach >= 1", f"{self.overshoot}, {self.reach}")

    @property
    def label(self) -> str:
        return f"spikefool-{self.rounds}"

    @torch.no_grad()
    def __call__(
        self,
        f: Objective,
        x0: Tensor,
        threat: Threat,
        estimator: Estimator,
        keys: Tensor,
        *,
        start: Tensor | None = None,
    ) -> Tensor:
        """Grids (B,*) of whole events -> admissible ones; relaxed points are asked, and never returned."""
        moves = free_moves(threat, "SpikeFool")
        best = Best(x0, final=f.final)
        part = best.standing(f, x0)
        x = x0 if start is None else moves.project(start, x0)
        score = f(x, exact, 0)
        best.offer(x, score)
        for number in range(self.rounds):
            on = (~score.fooled).nonzero()[:, 0]  # what has fallen did so by the fewest moves
            part, x = part.of(on), x[on]
            if not len(part.at):
                break
            aims = [part.f.difference(rank) for rank in ranks(part.f, self.targets)]
            plane = self._boundary(aims, x, estimator, number)
            x = _crossing(plane, x, part.x0, moves, self.reach)
            score = part.f(x, exact, number + 1)
            best.offer(x, score, part.at)
        return best.x

    def _boundary(self, aims: Sequence[Objective], x: Tensor, estimator: Estimator, number: int) -> _Plane:
        """DeepFool from x (n,*): to the nearest of the planes that the gradients tell, until the class is another."""
        point, normal = x.clone(), torch.zeros_like(x)
        crossed = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        for k in range(self.steps):
            salt = number * self.steps + k
            found = [estimator(aim, point, estimator.init(point), salt)[:2] for aim in aims]
            gaps = torch.stack([score.loss for score, _ in found], 1)
            normals = torch.stack([gradient for _, gradient in found], 1)
            size = normals.flatten(2).square().sum(2)
            far = torch.where(size > 0, gaps.abs() / size.sqrt().clamp(min=1e-30), float("inf"))
            nearest = far.argmin(1)
            rows = torch.arange(len(x), device=x.device)
            crossed = crossed | (gaps > 0).any(1)
            w = normals[rows, nearest]
            length = (gaps[rows, nearest].abs() + 1e-4) / size[rows, nearest].clamp(min=1e-30)
            step = per_image(w, (1.0 + self.overshoot) * length.where(torch.isfinite(far[rows, nearest]), 0.0)) * w
            ahead = (point + step).clamp(0.0, 1.0)
            point = torch.where(per_image(x, crossed), point, ahead)
            normal = torch.where(per_image(x, crossed & (normal != 0).flatten(1).any(1)), normal, w)
            if bool(crossed.all()):
                break
        return _Plane(point, normal)


def _crossing(plane: _Plane, x: Tensor, x0: Tensor, moves: FreeMoves, reach: float) -> Tensor:
    """The grid (n,*) of the fewest moves from x0 whose sum along the normal lies beyond the plane."""
    beyond = x + reach * (plane.point - x)
    need = (plane.normal * (beyond - x0)).flatten(1).sum(1) + _OVER
    gains = moves.gains(plane.normal, x0)
    order = gains.sort(dim=1, descending=True, stable=True)
    so_far = order.values.clamp(min=0.0).cumsum(1)
    before = torch.nn.functional.pad(so_far, (1, 0))[:, :-1]
    number = torch.arange(gains.shape[1], device=x.device)
    taken = (before < need[:, None]) & (order.values > 0) & (number < moves.eps)
    units = torch.zeros_like(taken).scatter(1, order.indices, taken)
    return moves.moved(units, plane.normal, x0)
