"""Poisson (Bernoulli) rate coding: each pixel fires at each step with its brightness as probability."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from spikeproof.tensors import graft, uniform

__all__ = ["Poisson"]


@dataclass(frozen=True)
class Poisson:
    """z[t] = 1 where a fresh uniform draw is below x, so that 0 never fires and 1 always does.

    The backward is the identity at each step: the mean of z[t] is x, and the estimate is unbiased where the loss is
    affine in each single spike. No rescaling by the batch's range: an image's spikes depend on it and its key alone.
    """

    @property
    def stochastic(self) -> bool:
        return True

    def __call__(self, x: Tensor, steps: int, keys: Tensor) -> Tensor:
        """Pixels (B,*) in [0,1], one key per image (B,) -> spikes (T,B,*) in {0,1}."""
        noise = uniform(keys, (steps, *x.shape[1:])).transpose(0, 1).to(x.device)  # (B,T,*) -> (T,B,*)
        return graft((noise < x).to(x.dtype), x.unsqueeze(0).expand_as(noise))
