"""A budget shared out among lines that each say what they gain at every price: the best way there is, exactly.

It is the knapsack with one choice a line. A price for the unit of budget tells of almost every line what it pays in any
best way (Lagrange): what is chosen otherwise loses more than the whole gap between the bound at that price and a way
that is known. The few lines of which that is not said are shared out budget by budget.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["spend"]

_HALVINGS: Final = 40
"""Of the interval in which the price lies. What is found is exact for any price; a better one leaves fewer lines."""

_REFILLS: Final = 16
"""How often what is left over is spent on the best single change."""

_ROUNDING: Final = 1e-9
"""Of a sum of gains in double precision; a line that is this near to the bound is looked at."""


def spend(values: Tensor, owner: Tensor, images: int, most: int) -> Tensor:
    """What each line pays, (M,) int64: its image's lines together at most `most`, and gain the most that they can.

    values (M,C+1) float64: what a line gains at each price, 0 for nothing and -inf where nothing has that price; owner
    (M,): the image of each, ascending. Where there is enough for all, of equal gains the cheaper.
    """
    count = torch.bincount(owner, minlength=images)
    slots = torch.arange(len(owner), device=owner.device) - (count.cumsum(0) - count)[owner]
    lines = values.new_full((images, int(count.max()), values.shape[1]), float("-inf"))
    lines[:, :, 0] = 0.0
    lines[owner, slots] = values
    paid = lines.argmax(2)  # the first, and cheapest, of equal ones
    scarce = paid.sum(1) > most
    if bool(scarce.any()):
        paid[scarce] = _scarce(lines[scarce], most)
    return paid[owner, slots]


def _scarce(lines: Tensor, most: int) -> Tensor:
    """What each line (B,A,C+1) pays, (B,A), where there is not enough for all."""
    prices = torch.arange(lines.shape[2], device=lines.device).to(lines)
    unit = _unit_price(lines, prices, most)
    worth = lines - unit[:, None, None] * prices
    top, paid = worth.max(2)
    paid = _refilled(lines, paid, most)
    bound = top.sum(1) + unit * most
    slack = _ROUNDING * bound.abs().clamp(min=1.0)
    gap = bound - _at(lines, paid).sum(1)
    some = gap > slack  # else what was found reaches the bound
    if bool(some.any()):
        allowed = worth[some] >= top[some][:, :, None] - (gap + slack)[some][:, None, None]
        paid[some] = _settled(lines[some], allowed, most)
    return paid


def _unit_price(lines: Tensor, prices: Tensor, most: int) -> Tensor:
    """The lowest price of a unit, (B,), found by halving, at which the lines want no more than there is."""
    low, high = lines.new_zeros(len(lines)), (lines[:, :, 1:] / prices[1:]).amax((1, 2)).clamp(min=0.0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        dear = (lines - middle[:, None, None] * prices).argmax(2).sum(1) > most
        low, high = torch.where(dear, middle, low), torch.where(dear, high, middle)
    return high


def _refilled(lines: Tensor, paid: Tensor, most: int) -> Tensor:
    """What is left over, spent on the change of a line that gains most, again and again."""
    paid, rows = paid.clone(), torch.arange(len(lines), device=lines.device)
    prices = torch.arange(lines.shape[2], device=lines.device)
    for _ in range(_REFILLS):
        left = most - paid.sum(1)
        more = lines - _at(lines, paid)[:, :, None]
        dear = (prices - paid[:, :, None]) > left[:, None, None]
        gain, which = more.masked_fill(dear, 0.0).flatten(1).max(1)
        line, price = which // lines.shape[2], which % lines.shape[2]
        paid[rows, line] = torch.where(gain > 0, price, paid[rows, line])
        if not bool((gain > 0).any()):
            break
    return paid


def _settled(lines: Tensor, allowed: Tensor, most: int) -> Tensor:
    """The best way (B,A) among the allowed prices (B,A,C+1) of each line, of which there is one at least."""
    lines = lines.masked_fill(~allowed, float("-inf"))
    open_ = allowed.sum(2) > 1
    settled = torch.where(open_, 0, lines.argmax(2))
    order = open_.int().argsort(dim=1, descending=True, stable=True)[:, : int(open_.sum(1).max())]
    core = lines.gather(1, order[:, :, None].expand(-1, -1, lines.shape[2]))
    core = torch.where(open_.gather(1, order)[:, :, None], core, _nothing(core))
    return settled.scatter_add(1, order, _one_by_one(core, most - settled.sum(1)))


def _nothing(like: Tensor) -> Tensor:
    """Lines that pay nothing and gain nothing."""
    found = torch.full_like(like, float("-inf"))
    found[:, :, 0] = 0.0
    return found


def _one_by_one(lines: Tensor, most: Tensor) -> Tensor:
    """The best way (B,A) for budgets (B,) of their own: line by line the best gain within every budget."""
    best = lines.new_zeros(len(lines), int(most.max()) + 1)
    chosen = []
    for line in lines.unbind(1):
        best, price = _with_line(best, line)
        chosen.append(price)
    paid, left = torch.zeros(lines.shape[:2], dtype=torch.int64, device=lines.device), most[:, None].clone()
    for index in range(lines.shape[1] - 1, -1, -1):
        price = chosen[index].gather(1, left).long()
        paid[:, index] = price[:, 0]
        left = left - price
    return paid


def _with_line(best: Tensor, line: Tensor) -> tuple[Tensor, Tensor]:
    """The best gain (B,k+1) within each budget with one line (B,C+1) more, and what that line is paid."""
    found, price = best + line[:, :1], torch.zeros_like(best, dtype=torch.int16)
    for cost in range(1, min(line.shape[1], best.shape[1])):
        if bool((line[:, cost] > float("-inf")).any()):
            other = F.pad(best[:, : best.shape[1] - cost] + line[:, cost, None], (cost, 0), value=float("-inf"))
            price = torch.where(other > found, cost, price)
            found = torch.maximum(found, other)
    return found, price


def _at(lines: Tensor, paid: Tensor) -> Tensor:
    """What each line gains at what it pays, (B,A)."""
    return lines.gather(2, paid[:, :, None])[:, :, 0]
