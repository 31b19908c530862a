"""A budget shared out among lines that each say what they gain at every price: the best way there is, exactly."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["spend"]


def spend(values: Tensor, owner: Tensor, images: int, most: int) -> Tensor:
    """What each line pays, (M,) int64: its image's lines together at most `most`, and gain the most that they can.

    values (M,C+1): what a line gains at each price, 0 for nothing and -inf where nothing has that price; owner (M,):
    the image of each, ascending. Of equal gains the cheaper.
    """
    wanted = values.argmax(1)  # the first, and cheapest, of equal ones
    short = torch.zeros(images, dtype=torch.int64, device=values.device).index_add_(0, owner, wanted) > most
    (at,) = short[owner].nonzero(as_tuple=True)
    if len(at):
        renumbered = short.cumsum(0) - 1
        wanted[at] = _shared(values[at], renumbered[owner[at]], int(short.sum()), most)
    return wanted


def _shared(values: Tensor, owner: Tensor, images: int, most: int) -> Tensor:
    """As `spend`, where there is not enough for all: line by line the best gain within every budget up to `most`."""
    lines, slots = _by_image(values, owner, images)
    paid = torch.zeros(images, lines.shape[1], dtype=torch.int64, device=values.device)
    best = values.new_zeros(images, most + 1)
    chosen = []
    for line in lines.unbind(1):
        best, price = _with_line(best, line)
        chosen.append(price)
    left = torch.full((images, 1), most, device=values.device)
    for index in range(lines.shape[1] - 1, -1, -1):
        price = chosen[index].gather(1, left).long()
        paid[:, index] = price[:, 0]
        left = left - price
    return paid[owner, slots]


def _by_image(values: Tensor, owner: Tensor, images: int) -> tuple[Tensor, Tensor]:
    """Lines (images,most lines,C+1), and in which of its image's places each stands (M,)."""
    count = torch.bincount(owner, minlength=images)
    slots = torch.arange(len(owner), device=owner.device) - (count.cumsum(0) - count)[owner]
    found = values.new_full((images, int(count.max()), values.shape[1]), float("-inf"))
    found[:, :, 0] = 0.0
    found[owner, slots] = values
    return found, slots


def _with_line(best: Tensor, line: Tensor) -> tuple[Tensor, Tensor]:
    """The best gain (B,k+1) within each budget with one line (B,C+1) more, and what that line is paid."""
    price = torch.zeros_like(best, dtype=torch.int16)
    found = best
    for cost in range(1, min(line.shape[1], best.shape[1])):
        if bool((line[:, cost] > 0).any()):
            other = F.pad(best[:, : best.shape[1] - cost] + line[:, cost, None], (cost, 0), value=float("-inf"))
            price = torch.where(other > found, cost, price)
            found = torch.maximum(found, other)
    return found, price
