"""Layers that know no time, run once on all steps."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["over_time"]


def over_time(z: Tensor, *layers: nn.Module) -> Tensor:
    """Layers without state, once on all steps: (T,B,*) -> (T,B,*)."""
    flat = z.flatten(0, 1)
    for layer in layers:
        flat = layer(flat)
    return flat.view(*z.shape[:2], *flat.shape[1:])
