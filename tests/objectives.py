"""Objectives made of a plain function, for the tests of attacks and estimators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from spikeproof.types import Objective, Rule, Score

__all__ = ["Plain", "unending"]


def unending(f: Any) -> Any:
    """A function (points, rule, salt) -> Score as an objective of which no success is final."""
    f.final = False
    return f


class Plain:
    """An `Objective` of loss(points (B,*), salt) -> (B,), or of loss(points, salt, rule) where `by_rule`.

    Keeps every point, salt and rule that it is asked, and whether a gradient was. `encode(x)` gives the code (B,T,*);
    the objective behind it, of loss(code, salt), is `behind`.
    """

    final = False
    classes = 4

    def __init__(
        self,
        loss: Callable[..., Tensor],
        keys: Tensor,
        *,
        fooled: Callable[[Tensor], Tensor] | None = None,
        by_rule: bool = False,
        encode: Callable[[Tensor], Tensor] | None = None,
        behind: Plain | None = None,
    ) -> None:
        self.loss, self.keys, self.by_rule, self.behind = loss, keys, by_rule, behind
        self.fooled = (lambda x: torch.zeros(len(x), dtype=torch.bool)) if fooled is None else fooled
        self._encode = encode
        self.points: list[Tensor] = []
        self.salts: list[int] = []
        self.rules: list[Any] = []
        self.gradients = 0

    def __call__(self, x: Tensor, rule: Rule, salt: int) -> Score:
        self.points.append(x.detach().clone())
        self.salts.append(salt)
        self.rules.append(rule)
        self.gradients += int(x.requires_grad)
        more = (rule,) if self.by_rule else ()
        return Score(self.loss(x, salt, *more), self.fooled(x.detach()))

    def of(self, index: Tensor) -> Objective:
        raise NotImplementedError

    def aimed(self, rank: int) -> Objective:
        raise NotImplementedError

    difference = aimed

    def encode(self, x: Tensor) -> Tensor:
        assert self._encode is not None
        return self._encode(x)

    def encoded(self) -> Objective:
        assert self.behind is not None
        return self.behind
