"""An untargeted attack made a targeted one: run towards each of the likeliest wrong classes, the best point kept."""

from __future__ import annotations

import torch
from torch import Tensor

from spikeproof.attacks._best import Best
from spikeproof.attacks._options import ranks
from spikeproof.tensors import exact, fold
from spikeproof.types import Attack, Estimator, Objective, Threat

__all__ = ["aimed_at_each"]


def aimed_at_each(
    attack: Attack,
    targets: int,
    f: Objective,
    x0: Tensor,
    threat: Threat,
    estimator: Estimator,
    keys: Tensor,
    start: Tensor | None,
) -> Tensor:
    """Points (B,*): the best by f of what the attack finds towards each of `targets` classes, for the loss's targeted
    form of each. It costs as many attacks, and a forward each; of an image whose success is final, those until then.
    """
    best = Best(x0, final=f.final)
    for rank in ranks(f, targets):
        part = best.standing(f, x0)
        if not len(part.at):
            break
        begun = None if start is None else start[part.at]
        own = fold(keys, f"target {rank}")[part.at]
        x = attack(part.f.aimed(rank), part.x0, threat, estimator, own, start=begun)
        with torch.no_grad():
            best.offer(x, part.f(x, exact, rank), part.at)
    return best.x
