"""An objective that counts what it is asked, for searches; and the images that they start from."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from spikeproof.tensors import image_keys, normal, uniform
from spikeproof.types import Objective, Score

__all__ = ["KEYS", "B", "Counted", "corners", "images", "no_estimator", "weighted"]

B = 6
KEYS = image_keys(0, torch.arange(B))


def images(*shape: int, count: int = B, seed: int = 1) -> Tensor:
    """Many pixels at the ends of the range."""
    return (1.4 * uniform(image_keys(seed, torch.arange(count)), shape).double() - 0.2).clamp(0, 1)


class Counted:
    """loss(points (m,*), which images (m,)) -> (m,), fooled above `above`; notes what is asked, image by image."""

    classes = 4

    def __init__(
        self,
        loss: Callable[[Tensor, Tensor], Tensor],
        count: int = B,
        *,
        above: float = float("inf"),
        final: bool = False,
    ) -> None:
        self.loss, self.above, self.final = loss, above, final
        self.at = torch.arange(count)
        self.keys = image_keys(0, self.at)
        self.asked = torch.zeros(count, dtype=torch.int64)
        self.points: list[tuple[Tensor, Tensor]] = []

    def __call__(self, x: Tensor, rule: Any, salt: int) -> Score:
        assert not torch.is_grad_enabled()
        assert len(x) == len(self.at) > 0
        self.asked += torch.bincount(self.at, minlength=len(self.asked))
        self.points.append((self.at, x.clone()))
        loss = self.loss(x, self.at)
        return Score(loss, loss > self.above)

    def of(self, index: Tensor) -> Objective:
        part: Any = object.__new__(type(self))
        part.__dict__.update(self.__dict__, at=self.at[index], keys=self.keys[index])
        return part

    def aimed(self, rank: int) -> Objective:
        raise NotImplementedError

    encode = encoded = difference = aimed  # type: ignore[assignment]


def no_estimator(*_: Any) -> Any:
    raise AssertionError("a search that asks for no gradient asked for one")


def corners(x0: Tensor, eps: float) -> Tensor:
    """All 2^n corners of an image's ball (n,), clipped to the box: (2^n,n)."""
    sides = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=x0.numel())), dtype=x0.dtype)
    return (x0.flatten() + eps * sides).clamp(0, 1)


def weighted(x: Tensor, at: Tensor) -> Tensor:
    """Each image its own plane, in whole steps: equal in every company, whatever order a sum is taken in."""
    return ((x.flatten(1) * _planes(x[0].numel())[at]).sum(1) / 0.05).round()


@cache
def _planes(numbers: int) -> Tensor:
    """Of the first hundred images."""
    return normal(image_keys(8, torch.arange(100)), (numbers,)).double()
