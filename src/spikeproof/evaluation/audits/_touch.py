"""Random corners on some pixels of each image: how much loss can these cause?"""

from __future__ import annotations

import torch
from torch import Tensor

from spikeproof.evaluation.plain import furthest
from spikeproof.tensors import exact, fold, signs, uniform
from spikeproof.types import EventThreat, Objective, Threat

__all__ = ["FALSE_ZERO", "rise", "some_of"]

FALSE_ZERO = 0.2
"""Loss that zero-gradient pixels can cause, of what as many others can: above it they hide something."""


def some_of(mask: Tensor, count: Tensor, keys: Tensor) -> Tensor:
    """A random choice of at most `count` (B,) entries of each row of a mask (B,N)."""
    drawn = uniform(fold(keys, "choice"), mask.shape[1:])
    order = torch.where(mask, drawn, 2.0)
    rank = order.argsort(1).argsort(1)
    return mask & (rank < count[:, None])


def rise(f: Objective, x0: Tensor, threat: Threat, mask: Tensor, keys: Tensor, draws: int) -> Tensor:
    """The largest loss rise over random corners on a mask (B,N), (B,); 0, and nothing is asked, where it is empty."""
    found = torch.zeros(len(x0), dtype=x0.dtype, device=x0.device)
    touched = mask.any(1).nonzero()[:, 0]
    if len(touched):
        found[touched] = _risen(f.of(touched), x0[touched], threat, mask[touched], keys[touched], draws).to(found)
    return found


def _risen(f: Objective, x0: Tensor, threat: Threat, mask: Tensor, keys: Tensor, draws: int) -> Tensor:
    # One draw a pass: the same images at the same places of a pass have the same loss, to the last bit, where they have
    # the same spikes, and nothing must look like a rise there.
    before = f(x0, exact, 0).loss
    best = torch.zeros_like(before)
    for draw in range(draws):
        corner = signs(fold(keys, f"corner {draw}"), x0.shape[1:]).to(x0) * mask.view(x0.shape)
        if isinstance(threat, EventThreat):  # of equal moves it would make the first, and always these
            corner = corner * uniform(fold(keys, f"order {draw}"), x0.shape[1:]).to(x0)
        after = f(furthest(threat, corner, x0), exact, 0).loss
        best = torch.maximum(best, after - before)
    return best
