"""How steep a scalar of the logits is at the image: what the input-gradient penalties share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from spikeproof.defences._watched import Forward
from spikeproof.tensors import per_image
from spikeproof.types import Rule, VictimLike

__all__ = ["Form", "How", "Norm", "Scalar", "penalty"]

Scalar = Literal["ce", "probability", "margin", "pair"]
Norm = Literal["l1", "l2", "l1_squared", "l2_squared"]
Form = Literal["finite_difference", "double_backprop"]


class How(NamedTuple):
    """Of which scalar, in which norm, by which form, over which step a pixel."""

    scalar: Scalar
    norm: Norm
    form: Form
    h: float


def penalty(victim: VictimLike, forwards: Sequence[Forward], y: Tensor, rule: Rule, how: How) -> Tensor:
    """Mean over forwards and images of the norm of the scalar's gradient at the image, or of its square: 0-dim, with
    graph.

    The rival class is the runner-up at the image, and stays it. 'double_backprop' is the norm itself, with a second
    derivative, which a fused rule refuses. 'finite_difference' is (f(x + h v) - f(x)) / h, with v = sign(g) for l1; for
    l2 v = sqrt(d) g / ||g||, d pixels, over sqrt(d), so that h is the typical step of a pixel in both. v is a constant,
    and x + h v is clipped to [0,1], because pixels outside do not exist.
    """
    slopes = torch.cat([_slopes(victim, at, y, rule, how) for at in forwards])
    return (slopes.square() if how.norm.endswith("squared") else slopes.abs()).mean()


def _slopes(victim: VictimLike, at: Forward, y: Tensor, rule: Rule, how: How) -> Tensor:
    """(B,)."""
    rival = at.logits.detach().scatter(1, y[:, None], float("-inf")).argmax(1)
    here = _scalar(how.scalar, at.logits, y, rival)
    doubly = how.form == "double_backprop"
    (g,) = torch.autograd.grad(here.sum(), at.x, retain_graph=True, create_graph=doubly)
    if doubly:
        length: Tensor = torch.linalg.vector_norm(g.flatten(1), 1 if how.norm.startswith("l1") else 2, dim=1)
        return length
    v, unit = _direction(g, how.norm)
    moved = (at.x.detach() + how.h * v).clamp(0.0, 1.0)
    return (_scalar(how.scalar, victim(moved, rule, at.keys), y, rival) - here) / (how.h * unit)


def _direction(g: Tensor, norm: str) -> tuple[Tensor, float]:
    """The step v, and what its slope is to be divided by."""
    if norm.startswith("l1"):
        return g.sign(), 1.0
    unit = float(g[0].numel() ** 0.5)
    size = torch.linalg.vector_norm(g.flatten(1), dim=1).clamp(min=torch.finfo(g.dtype).tiny)
    return unit * g / per_image(g, size), unit


def _scalar(name: str, logits: Tensor, y: Tensor, rival: Tensor) -> Tensor:
    """(B,)."""
    if name == "ce":
        return F.cross_entropy(logits, y, reduction="none")
    if name == "probability":
        return torch.softmax(logits, 1).gather(1, y[:, None])[:, 0]
    lead = (logits.gather(1, y[:, None]) - logits.gather(1, rival[:, None]))[:, 0]
    return lead if name == "margin" else torch.sigmoid(lead)
