"""The blocks of an image that a search moves as one: squares of one channel."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

__all__ = ["Grid", "sides"]


def sides(share: float, x0: Tensor) -> list[int]:
    """Edges of blocks in pixels: at first `share` of the shorter side of x0 (B,*), then ever half of that, to 1."""
    found = [max(int(share * min((1, *x0.shape[1:])[-2:])), 1)]
    while found[-1] > 1:
        found.append(found[-1] // 2)
    return found


class Grid:
    """The blocks of one size. of (n,): the block of each number of an image; size (count,): how many numbers it has.

    The last block of a row or column may be cut short. An image that has no rows is one row.
    """

    def __init__(self, x0: Tensor, side: int) -> None:
        height, width = (1, *x0.shape[1:])[-2:]
        down, across = -(-height // side), -(-width // side)
        plane = torch.arange(prod(x0.shape[1:]) // (height * width), device=x0.device)[:, None, None]
        row, column = (torch.arange(n, device=x0.device) // side for n in (height, width))
        self.of = ((plane * down + row[:, None]) * across + column).flatten()
        self.size = torch.bincount(self.of)
        self.count = len(self.size)

    def spread(self, values: Tensor) -> Tensor:
        """What holds for each block (...,count), for each number of an image: (...,n)."""
        return values[..., self.of]
