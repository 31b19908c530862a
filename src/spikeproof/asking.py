"""How many points are asked in passes of bounded size, and what of two answers is a gain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import torch
from torch import Tensor

from spikeproof.tensors import exact
from spikeproof.types import Objective, Score

__all__ = ["ROUNDING", "ask", "at_once", "gain", "rounds"]

_POINTS = 512
"""Of one pass at most; but always one of each image."""

ROUNDING: Final = 1e-6
"""Losses (relative above 1) that differ by less are equal: the same spikes, summed in another order."""


def at_once(x0: Tensor, numbers: int = 2**19) -> int:
    """Points that a pass holds, of images x0 (B,*), which are so many numbers together at most."""
    return max(min(_POINTS, numbers // x0.shape[1:].numel()), len(x0), 1)


def ask(f: Objective, owner: Tensor, points: Callable[[slice], Tensor], salt: int, most: int) -> Score:
    """Of one point for each entry of `owner` (m,) into the images of f; the `points` of a slice of them are made when
    they are asked, `most` at a time: (m,)."""
    found = []
    for first in range(0, max(len(owner), 1), most):  # of no images too there is an answer
        some = slice(first, first + most)
        found.append(f.of(owner[some])(points(some), exact, salt))
    return Score(*(torch.cat(one) for one in zip(*found, strict=True)))


def rounds(count: int, x0: Tensor) -> Iterator[tuple[range, Tensor]]:
    """`count` points of each image x0 (B,*), B at least 1, some points of all images in a pass: their numbers, and for
    each point of the pass which image it is of, point after point (int64)."""
    together = max(at_once(x0) // len(x0), 1)
    for first in range(0, count, together):
        some = range(first, min(first + together, count))
        yield some, torch.arange(len(x0), device=x0.device).repeat(len(some))


def gain(found: Score, held: Score) -> Tensor:
    """Of points (n,s) over what is held (n,), in units of what rounding may be: (n,s) float64. A success comes first, a
    loss of it never."""
    loss, fooled = held.loss[:, None], held.fooled[:, None]
    more = ((found.loss - loss).double() / (ROUNDING * loss.abs().clamp(min=1.0))).round()
    more = torch.where(found.fooled & ~fooled, more + 1e12, more)
    return torch.where(fooled & ~found.fooled, float("-inf"), more)
