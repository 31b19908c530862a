"""Spikes and synaptic operations of an inference, counted on the forward pass as it runs, as rows."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from spikeproof.rows import EnergyRow
from spikeproof.tensors import exact, fold
from spikeproof.types import Neuron
from spikeproof.victims.batch import Batch
from spikeproof.victims.taps import tapped
from spikeproof.victims.victim import Victim, borrowed

__all__ = ["energy_rows"]


@torch.no_grad()
def energy_rows(victim: Victim, batch: Batch) -> Iterator[EnergyRow]:
    """One row per image (B,C,H,W) of kind 'energy', for one inference of `steps` steps.

    `layers`: each convolution's and linear layer's [effective ACs, effective MACs, dense operations], as NeuroBench
    counts them one image and one step at a time: the operations of a step are ACs where its input holds nothing but
    -1, 0 and 1, else MACs (an average pool or a sum of spikes makes them MACs). `sites`: each layer of neurons'
    [spikes, neurons times steps]. Of a stochastic encoder it is one draw. The victim must be in eval mode.
    """
    layers: dict[str, Tensor] = {}
    sites: dict[str, Tensor] = {}

    def counted(neuron: Neuron, currents: Tensor, site: str) -> Tensor:
        spikes = exact(neuron, currents, site)
        sites[site] = sites.get(site, 0) + _spikes(spikes, len(batch))
        return spikes

    with tapped(lent := borrowed(victim), counted) as (watched, taps):
        lent(batch.x, watched, fold(batch.keys, "energy"))
    modules = dict(lent.body.named_modules())
    for tap in taps:
        layer = modules.get(tap.site)
        if isinstance(layer, nn.Conv2d | nn.Linear) and tap.side == "input":
            layers[tap.site] = layers.get(tap.site, 0) + _operations(layer, tap.tensor, len(batch))
    for i, (image, label) in enumerate(zip(batch.ids.tolist(), batch.y.tolist(), strict=True)):
        yield {
            "kind": "energy",
            "image": image,
            "label": label,
            "steps": victim.steps,
            "layers": {name: [int(n) for n in counts[i]] for name, counts in layers.items()},
            "sites": {name: [int(n) for n in counts[i]] for name, counts in sites.items()},
        }


def _operations(layer: nn.Conv2d | nn.Linear, entered: Tensor, images: int) -> Tensor:
    """What enters a layer, (T B,*) or (T,B,*) or (B,*) -> (B,3): effective ACs, effective MACs and dense operations."""
    folded = entered.reshape(-1, *entered.shape[entered.dim() - (3 if isinstance(layer, nn.Conv2d) else 1) :])
    effective = _counted(layer, layer.weight != 0, folded != 0)
    dense = _counted(layer, torch.ones_like(layer.weight), torch.ones_like(folded[:1])).expand(len(folded))
    spiking = ((folded == 0) | (folded.abs() == 1)).flatten(1).all(1)
    columns = torch.stack([effective * spiking, effective * ~spiking, dense], 1)
    return columns.view(-1, images, 3).sum(0)


def _counted(layer: nn.Conv2d | nn.Linear, weights: Tensor, inputs: Tensor) -> Tensor:
    """How many of the marked weights meet a marked input: one number for each entry (N,) of inputs (N,*)."""
    marked = copy.deepcopy(layer).float()
    marked.weight = nn.Parameter(weights.float(), requires_grad=False)
    marked.bias = None
    met: Tensor = marked(inputs.float())
    return met.double().flatten(1).sum(1)


def _spikes(fired: Tensor, images: int) -> Tensor:
    """Spikes (T,B,*) -> (B,2): how many, and out of how many."""
    counts = (fired != 0).double().transpose(0, 1).flatten(1).sum(1)
    return torch.stack([counts, torch.full_like(counts, fired.numel() // images)], 1)
