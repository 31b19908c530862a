"""What step a function of a network's own makes: found by asking it at other membranes, never by reading its code."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

__all__ = ["SAME", "Step", "places", "step_of"]

SAME = 1e-4
"""How far apart spikes may be that are to be the same: a straight-through term leaves its rounding in them."""

_NEAR = 1e-5
"""How far apart membranes may be, of their size: an owner's `v / threshold - 1` rounds in another place than ours."""

_FAR = 1024.0
"""Where the search for a threshold begins, in units of the largest membrane seen; it halves `_HALVINGS` times."""

_HALVINGS = 44


@dataclass(frozen=True)
class Step:
    """A function of several arguments that gives `high` where one of them reaches a threshold, and `low` elsewhere.

    membrane: the number of the argument. threshold: a constant; source: the number of the argument that is the
    threshold instead, a number or a tensor that may be learned. strict: silent exactly at it. high: None where a spike
    is as high as the threshold.
    """

    membrane: int
    threshold: float = 0.0
    source: int | None = None
    strict: bool = False
    low: float = 0.0
    high: float | None = 1.0

    def level(self, args: tuple[Any, ...]) -> Any:
        """The threshold, a number or a tensor that broadcasts against the membrane."""
        return self.threshold if self.source is None else args[self.source]

    def height(self, args: tuple[Any, ...]) -> Tensor:
        """The membrane (B,*) above the threshold, in its own unit: as in every neuron, it is not divided by it."""
        height: Tensor = args[self.membrane] - self.level(args)
        return height

    def swing(self, args: tuple[Any, ...]) -> Any:
        """What a spike adds to silence, a number or a tensor that broadcasts against the membrane."""
        return (self.level(args) if self.high is None else self.high) - self.low

    def spikes(self, height: Tensor, args: tuple[Any, ...]) -> Tensor:
        """What the function gives at heights (B,*)."""
        fires = (height > 0 if self.strict else height >= 0).to(height.dtype)
        spikes: Tensor = self.low + self.swing(args) * fires
        return spikes

    @torch.no_grad()
    def fits(self, args: tuple[Any, ...], out: Tensor) -> Tensor:
        """Whether a call gave what it would by this, but for heights of a rounding: 0-dim bool."""
        height, swing = self.height(args), self.swing(args)
        most = float(swing.abs().max()) if isinstance(swing, Tensor) else abs(swing)
        wrong = (self.spikes(height, args) - out).abs() > SAME * (1 + most)
        if out.device.type == "cpu" and not bool(wrong.any()):  # what follows costs more than to look
            return torch.tensor(True)
        size = args[self.membrane].abs() + torch.as_tensor(self.level(args), device=out.device).abs()
        odd = wrong & (height.abs() > _NEAR * size)
        return torch.logical_not(odd.any())


def places(forward: Callable[..., Any], name: str, *, after: int) -> int | None:
    """The number of the argument of that name, counted behind the first `after`; None where there is none."""
    names = list(inspect.signature(forward).parameters)[after:]
    return names.index(name) if name in names else None


@torch.no_grad()
def step_of(ask: Callable[..., Any], args: tuple[Any, ...], among: Iterable[int]) -> Step | None:
    """The step that `ask(*args)` makes in one of the arguments of these numbers; None where it makes none.

    It is asked some hundred times, at membranes of the same shape, in the same company.
    """
    for place in among:
        asking = _Asking(ask, args, place)
        if (step := asking.step()) is not None:
            return step
    return None


class _Asking:
    """One function, its arguments, and the number of the one that is moved."""

    def __init__(self, ask: Callable[..., Any], args: tuple[Any, ...], place: int) -> None:
        self.ask, self.args, self.place = ask, args, place
        self.at: Tensor = args[place]

    def __call__(self, membrane: Tensor, args: tuple[Any, ...] | None = None) -> Tensor:
        args = self.args if args is None else args
        out: Tensor = self.ask(*args[: self.place], membrane.clone(), *args[self.place + 1 :])
        return out

    def step(self) -> Step | None:
        """The first of the thresholds that are possible by which the function can be foretold."""
        reach = _FAR * max(1.0, float(self.at.abs().max()))
        ends = [self(torch.full_like(self.at, far)) for far in (-2 * reach, -reach, reach, 2 * reach)]
        if not all(end.shape == self.at.shape and bool(torch.isfinite(end).all()) for end in ends):
            return None
        lowest, low, high, highest = ends
        flat = bool((lowest == low).all() and (high == highest).all() and (low == low.flatten()[0]).all())
        if not flat or not bool((high > low).all()):
            return None
        edge = self._edge(low, high, reach)
        ground = float(low.flatten()[0])
        for level, source in self._levels(edge):
            top = float(high.flatten()[0]) if bool((high == high.flatten()[0]).all()) else None
            step = Step(self.place, level, source, False, ground, top)
            silent = self(torch.zeros_like(self.at) + step.level(self.args)) == low
            step = replace(step, strict=bool(silent.double().mean() > 0.5))
            if self._foretold(step):
                return step
        return None

    def _edge(self, low: Tensor, high: Tensor, reach: float) -> Tensor:
        """Where each element goes over from the one to the other, if it does so once."""
        below, above = torch.full_like(self.at, -reach), torch.full_like(self.at, reach)
        for _ in range(_HALVINGS):
            middle = (below + above) / 2
            fires = self(middle) - low > (high - low) / 2
            below, above = torch.where(fires, below, middle), torch.where(fires, middle, above)
        return above

    def _levels(self, edge: Tensor) -> Iterable[tuple[float, int | None]]:
        """Thresholds that are where the edge is: other arguments that move it, then constants, the rounder first."""
        for number, arg in enumerate(self.args):
            if number != self.place and _is_number(arg) and _near(edge, arg) and self._moves(number, edge):
                yield 0.0, number
        middle = float(edge.double().mean())
        if _near(edge, middle):
            yield from ((0.0, None),) if abs(middle) < _NEAR else ()
            yield float(f"{middle:.6g}"), None

    def _moves(self, number: int, edge: Tensor) -> bool:
        """Whether the edge goes up with another argument."""
        up = tuple(arg + 1.0 if i == number else arg for i, arg in enumerate(self.args))
        return bool((self(edge + 0.5, up) < self(edge + 0.5)).all())

    def _foretold(self, step: Step) -> bool:
        """Whether it is that step at membranes around the threshold, near and far, of every sign beside every other."""
        level = torch.as_tensor(step.level(self.args), dtype=self.at.dtype, device=self.at.device)
        turns = torch.arange(self.at.numel(), device=self.at.device).view(self.at.shape)
        for every in (1, 2, 3):
            signs = torch.where(turns % every == 0, 1.0, -1.0).to(self.at.dtype)
            for far in (3e-5, 1e-2, 1.0):
                for sign in (signs, -signs):
                    around = level + sign * far * (1 + level.abs())
                    args = (*self.args[: self.place], around, *self.args[self.place + 1 :])
                    if not bool(step.fits(args, self(around))):
                        return False
        return bool(step.fits(self.args, self(self.at)))


def _is_number(arg: Any) -> bool:
    if isinstance(arg, Tensor):
        return arg.is_floating_point()
    return isinstance(arg, float | int) and not isinstance(arg, bool)


def _near(edge: Tensor, level: Any) -> bool:
    try:
        return bool(((edge - level).abs() <= _NEAR * (1 + edge.abs())).all())
    except RuntimeError:  # of another shape
        return False
