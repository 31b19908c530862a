"""What is made of a weight once, for many passes."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

__all__ = ["ONCE", "Kept"]


class Kept:
    """What a layer made of its weight, by name; made when it is asked for, and again of another weight or one that was
    written to (but through `.data`). A copy begins with nothing."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Tensor] = {}
        self._made_of: tuple[_Version, Tensor] | None = None

    def __reduce__(self) -> tuple[type[Kept], tuple[()]]:
        return type(self), ()

    def of(self, weight: Tensor, name: Hashable, make: Callable[[Tensor], Tensor]) -> Tensor:
        """`make` of the weight; not kept where a gradient of the weight is recorded."""
        if weight.is_inference() or (weight.requires_grad and torch.is_grad_enabled()):  # the former has no version
            return make(weight)
        version = weight.data_ptr(), weight._version, weight.shape, weight.stride()
        if self._made_of is None or self._made_of[0] != version:
            self._known.clear()
            # The weight is kept, so that no other one comes to lie at its address.
            self._made_of = version, weight.detach()
        if name not in self._known:
            with torch.inference_mode(False):  # what is made there is of no use to a pass that is recorded
                self._known[name] = make(weight.detach())
        return self._known[name]


class _Once(Kept):
    """Keeps nothing, for a weight that is another one at the next call."""

    def of(self, weight: Tensor, name: Hashable, make: Callable[[Tensor], Tensor]) -> Tensor:
        return make(weight)


ONCE = _Once()

_Version = tuple[int, int, tuple[int, ...], tuple[int, ...]]
"""Where a weight lies, how often it was written to, and which numbers there it has."""
