"""Straight-through terms: `s + p - p.detach()`, where s is a comparison and p what its owner differentiates instead.

The comparison has no gradient and the sum has one; both are seen as torch makes them. What is kept of a term is how
many operations lie between the two: the same code runs in every call.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from spikeproof.interop._step import SAME, Step

__all__ = ["Compared", "Search", "Swap", "Term", "squashed"]

_ABOVE = {"gt": True, "__gt__": True, "greater": True, "ge": False, "__ge__": False, "greater_equal": False}
_BELOW = {"lt": True, "__lt__": True, "less": True, "le": False, "__le__": False, "less_equal": False}
"""Names of comparisons, and whether they are strict."""

_SUMS = ("add", "__add__", "__radd__", "sub", "subtract", "__sub__", "__rsub__", "rsub")

_SQUASHING = ("Sigmoid", "Tanh", "Hardtanh", "Hardsigmoid", "Clamp", "Atan", "Erf", "Exp", "Reciprocal")
_AFFINE = ("Add", "Sub", "Rsub", "Mul", "Div", "Neg", "Clone", "ToCopy")
"""How torch names the operations of a graph, from the front."""

_WITHIN = 24
"""So many operations may lie between a comparison and its sum."""


@dataclass(frozen=True)
class Term:
    """A comparison by its name, how many operations later the sum comes, and the step that they make of both sides."""

    compares: str
    gap: int
    step: Step


class Compared:
    """One comparison: its two sides, what came of it, and its number among the operations."""

    def __init__(self, name: str, sides: tuple[Any, ...], bits: Tensor, at: int) -> None:
        self.name, self.sides, self.bits, self.at, self.used = name, sides, bits, at, False

    def step(self, total: Tensor) -> Step | None:
        """The step of both sides that a sum is, if it has one height where the bits are set and one where not."""
        if total.shape != self.bits.shape or bool(self.bits.all()) or not bool(self.bits.any()):
            return None
        on, off = total.detach()[self.bits], total.detach()[~self.bits]
        if not _one(off) and not _one(on):
            return None
        above = (self.name in _ABOVE) == bool(on.mean() > off.mean())  # ~(v < threshold) is a sum of the complement
        strict = (_ABOVE | _BELOW)[self.name] == bool(on.mean() > off.mean())
        fires, rests = (on, off) if bool(on.mean() > off.mean()) else (off, on)
        high = _round(fires) if _one(fires) else None
        step = Step(0 if above else 1, 0.0, 1 if above else 0, strict, _round(rests), high)
        fit = _differentiable(self.sides[step.membrane]) and bool(fires.min() - rests.max() > 100 * SAME)
        return step if fit and bool(step.fits(self.sides, total)) else None


def squashed(side: Tensor) -> bool:
    """Whether what is compared is a bounded image of a membrane: the owner's slope of it would multiply every rule's.

    Looked for behind factors and summands that are constant; a membrane is a sum of several things.
    """
    node = side.grad_fn
    while node is not None:
        name, parents = node.name(), [parent for parent, _ in node.next_functions if parent is not None]
        if name.startswith(_SQUASHING):
            return True
        if not name.startswith(_AFFINE) or len(parents) != 1:
            return False
        (node,) = parents
    return False


def _one(values: Tensor) -> bool:
    return bool(values.max() - values.min() <= SAME)


def _round(values: Tensor) -> float:
    return float(f"{float(values.double().mean()):.4g}")


def _differentiable(side: Any) -> bool:
    return isinstance(side, Tensor) and side.is_floating_point() and side.requires_grad


class _Watch(TorchFunctionMode, ABC):
    """Counts the operations of a call that are the network's own, and tells of comparisons and sums among them.

    aside: whether what is done now is not the network's.
    """

    def __init__(self, aside: Callable[[], bool]) -> None:
        super().__init__()
        self.aside, self.count = aside, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if self.aside():
            return out
        self.count += 1
        name = getattr(func, "__name__", "")
        if name in _ABOVE or name in _BELOW:
            if len(args) == 2 and isinstance(out, Tensor) and any(map(_differentiable, args)):
                self.compared(Compared(name, args, out, self.count))
        elif name in _SUMS and _differentiable(out):
            return self.summed(out, args)
        return out

    @abstractmethod
    def compared(self, found: Compared) -> None:
        """Told of a comparison."""

    @abstractmethod
    def summed(self, total: Tensor, args: tuple[Any, ...]) -> Tensor:
        """Told of a sum (B,*); what the network gets instead, of the same value."""


class Search(_Watch):
    """Finds the terms of a call: `terms`, as often as they are met, each with what `where` says then, and the sum.

    clear: those whose membrane is compared itself, at least once, and no bounded image of it.
    """

    def __init__(self, aside: Callable[[], bool], where: Callable[[], str]) -> None:
        super().__init__(aside)
        self.where = where
        self.live: list[Compared] = []
        self.terms: list[tuple[Term, str, Tensor]] = []
        self.clear: set[Term] = set()

    def compared(self, found: Compared) -> None:
        self.live = [other for other in self.live if self.count - other.at < _WITHIN] + [found]

    def summed(self, total: Tensor, args: tuple[Any, ...]) -> Tensor:
        for found in reversed(self.live):
            if self.count - found.at > _WITHIN or (step := found.step(total)) is None:
                continue
            # Spikes that have a gradient already, added to something silent, are no term.
            if not any(_differentiable(arg) and found.step(arg) is not None for arg in args):
                self.live.remove(found)
                term = Term(found.name, self.count - found.at, step)
                self.terms.append((term, self.where(), total.detach()))
                if not squashed(found.sides[step.membrane]):
                    self.clear.add(term)
                break
        return total


class Swap(_Watch):
    """Gives each of the known terms to `swap(term, sides, sum)`, and goes on with what that returns; counts them."""

    def __init__(
        self, aside: Callable[[], bool], terms: Iterable[Term], swap: Callable[[Term, tuple[Any, ...], Tensor], Tensor]
    ) -> None:
        super().__init__(aside)
        self.known, self.swap, self.met = tuple(terms), swap, 0
        self.due: dict[int, list[tuple[Term, Compared]]] = {}

    def compared(self, found: Compared) -> None:
        for term in self.known:
            if term.compares == found.name and _differentiable(found.sides[term.step.membrane]):
                self.due.setdefault(self.count + term.gap, []).append((term, found))

    def summed(self, total: Tensor, args: tuple[Any, ...]) -> Tensor:
        for term, found in self.due.pop(self.count, []):
            if not found.used and total.shape == found.bits.shape and bool(term.step.fits(found.sides, total)):
                found.used = True
                self.met += 1
                return self.swap(term, found.sides, total)
        return total
