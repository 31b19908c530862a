"""What is made of a weight once, for many passes."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from torch import Tensor

__all__ = ["Kept"]


class Kept:
    """What a layer made of its weight, by name; made when it is asked for, and again of another weight or one that was
    written to (but through `.data`). A copy begins with nothing."""

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[_Version, Tensor, Tensor]] = {}

    def __reduce__(self) -> tuple[type[Kept], tuple[()]]:
        return Kept, ()

    def of(self, weight: Tensor, name: Hashable, make: Callable[[Tensor], Tensor]) -> Tensor:
        """`make` of the weight without its graph."""
        if weight.is_inference():  # has no version
            return make(weight)
        version = weight.data_ptr(), weight._version, weight.shape, weight.stride()
        known = self._known.get(name)
        if known is None or known[0] != version:
            # The weight is kept, so that no other one comes to lie at its address.
            known = self._known[name] = version, make(weight.detach()), weight.detach()
        return known[1]


_Version = tuple[int, int, tuple[int, ...], tuple[int, ...]]
"""Where a weight lies, how often it was written to, and which numbers there it has."""
