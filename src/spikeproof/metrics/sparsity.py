"""How sparse a gradient is: scale and shape, per image, (B,*) -> (B,).

Scale: l1, l2 (an L-inf attacker gains eps * l1 to first order). Shape, blind to scale: the share of exact zeros, the
share below tau * max, l1/(sqrt(d) l2), Hoyer, Gini, participation ratio. The scale-free ones of an all-zero gradient
do not exist and are NaN, which a row stores as null. Definitions: Hurley and Rickard 2009; Hoyer 2004.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = [
    "TAUS",
    "below_share",
    "event_measures",
    "gini",
    "hoyer",
    "l1",
    "l1_ratio",
    "l2",
    "measures",
    "participation",
    "zero_share",
]

TAUS = (1e-6, 1e-3, 1e-2)
"""Thresholds of `below_share` that `measures` reports, as shares of the largest entry."""


def _flat(g: Tensor) -> Tensor:
    """|g| as (B,d) in float64: sums over 10^5 entries of one sign lose digits in float32."""
    return g.detach().flatten(1).abs().double()


def _scaled(g: Tensor) -> Tensor:
    """|g| / max|g| (B,d), NaN for an all-zero image: squares neither overflow nor underflow."""
    a = _flat(g)
    return a / a.amax(1, keepdim=True)


def zero_share(g: Tensor) -> Tensor:
    """Share of entries that are exactly 0, in [0,1]."""
    return (_flat(g) == 0).double().mean(1)


def below_share(g: Tensor, tau: float) -> Tensor:
    """Share of entries with |g| <= tau max|g|, in [0,1]; exact zeros count; 1 for an all-zero gradient."""
    a = _flat(g)
    return (a <= tau * a.amax(1, keepdim=True)).double().mean(1)


def l1(g: Tensor) -> Tensor:
    """sum |g|."""
    return _flat(g).sum(1)


def l2(g: Tensor) -> Tensor:
    """sqrt(sum g^2)."""
    return _flat(g).square().sum(1).sqrt()


def l1_ratio(g: Tensor) -> Tensor:
    """l1 / (sqrt(d) l2), in [1/sqrt(d), 1]: 1/sqrt(d) for one entry, 1 for equal magnitudes; small is sparse."""
    a = _scaled(g)
    return a.sum(1) / (a.square().sum(1) * a.shape[1]).sqrt()


def hoyer(g: Tensor) -> Tensor:
    """(sqrt(d) - l1/l2) / (sqrt(d) - 1), in [0,1]: 1 for one entry, 0 for equal magnitudes; NaN for d = 1."""
    root = math.sqrt(g[0].numel())
    return root * (1.0 - l1_ratio(g)) / (root - 1.0) if root > 1 else torch.full_like(l1(g), math.nan)


def gini(g: Tensor) -> Tensor:
    """Gini index of |g|, in [0, 1 - 1/d]: 0 for equal magnitudes, 1 - 1/d for one entry."""
    a = _scaled(g).sort(1).values
    d = a.shape[1]
    rank = torch.arange(1, d + 1, dtype=a.dtype, device=a.device)
    return ((2.0 * rank - d - 1.0) * a).sum(1) / (d * a.sum(1))


def participation(g: Tensor) -> Tensor:
    """(sum g^2)^2 / sum g^4, in [1, d]: how many entries carry the gradient."""
    squares = _scaled(g).square()
    return squares.sum(1).square() / squares.square().sum(1)


def measures(g: Tensor) -> dict[str, Tensor]:
    """Every measure above by name, each (B,)."""
    return {
        "zero_share": zero_share(g),
        **{f"below_{tau:.0e}": below_share(g, tau) for tau in TAUS},
        "l1": l1(g),
        "l2": l2(g),
        "l1_ratio": l1_ratio(g),
        "hoyer": hoyer(g),
        "gini": gini(g),
        "participation": participation(g),
    }


def event_measures(g: Tensor, x: Tensor) -> dict[str, Tensor]:
    """Where the gradient with respect to grids of events lies, g and x (B,T,2,H,W) -> by name, each (B,).

    zero_share_events, zero_share_empty: the share of exact zeros among the cells that hold an event, and among those
    that hold none, whose zeros say nothing of robustness: most of a grid is empty. l1_share_events, l1_share_on: the
    parts of l1 on cells with events, and on those of polarity 1. l1_gini_time, l1_gini_space: how unequally l1 is
    spread over the frames, and over the places (H,W). NaN where no cell is of a kind, and for an all-zero gradient.
    """
    a, event = _flat(g).view_as(g), x != 0

    def share(of: Tensor, among: Tensor) -> Tensor:
        return (of & among).flatten(1).double().sum(1) / among.flatten(1).double().sum(1)

    total = a.flatten(1).sum(1)
    return {
        "zero_share_events": share(a == 0, event),
        "zero_share_empty": share(a == 0, ~event),
        "l1_share_events": (a * event).flatten(1).sum(1) / total,
        "l1_share_on": a.select(-3, 1).flatten(1).sum(1) / total,
        "l1_gini_time": gini(a.sum((2, 3, 4))),
        "l1_gini_space": gini(a.sum((1, 2))),
    }
