"""BPTR: backward through the rate; a gradient passes where the neuron fired at all."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from spikeproof.tensors import exact, graft
from spikeproof.types import Neuron

__all__ = ["BPTR"]


@dataclass(frozen=True)
class BPTR:
    """dL/dI[t] = dL/ds[t] * 1[rate > 0], no recursion in time (SNN-RAT, Ding et al., NeurIPS 2022).

    A silent neuron passes nothing, exactly; one that fired once passes everything, at every step.
    """

    def __call__(self, neuron: Neuron, currents: Tensor, site: str) -> Tensor:
        """Currents (T,B,*) -> exact spikes (T,B,*)."""
        spikes = exact(neuron, currents.detach(), site)
        return graft(spikes, (spikes.mean(0) > 0).to(currents.dtype) * currents)
