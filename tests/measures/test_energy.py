"""Spikes and synaptic operations against loops over every connection, and what must not change them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from made import held, made
from oracles import synapses
from small import adapted, digits, trained, untouched
from torch import Tensor, nn

from spikeproof.measures.energy import energy_rows
from spikeproof.metrics import energy
from spikeproof.tensors import exact, image_keys
from spikeproof.types import Neuron
from spikeproof.victims.batch import Batch
from spikeproof.victims.victim import Victim


def rows(victim: Victim, count: int = 3, first: int = 0) -> list[dict[str, Any]]:
    return list(energy_rows(victim, Batch.of(victim, *digits(count, first=first), 0)))


def inputs_of(victim: Victim, x: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What enters each layer with weights, and the spikes of each layer of neurons, of one image: (T,*)."""
    entered: dict[str, Tensor] = {}
    fired: dict[str, Tensor] = {}

    def seen(neuron: Neuron, currents: Tensor, site: str) -> Tensor:
        fired[site] = exact(neuron, currents, site)
        return fired[site]

    handles = [
        module.register_forward_hook(lambda m, i, o, name=name: entered.__setitem__(name, i[0].detach()))
        for name, module in victim.body.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)
    ]  # fmt: skip
    with torch.no_grad():
        victim(x, seen, image_keys(0, torch.zeros(1, dtype=torch.int64)))
    for handle in handles:
        handle.remove()
    return entered, fired


@pytest.mark.parametrize(("encoder", "options"), [("direct", {}), ("phase", {"pool": "avg"})])
def test_every_count_is_that_of_a_walk_over_the_connections(encoder: str, options: dict[str, str]) -> None:
    victim = adapted(encoder, steps=2, **options)
    with torch.no_grad():
        victim.body.get_submodule("layer1.0.conv2").weight[0] = 0.0  # weights that are zero are no operations
        victim.body.get_submodule("fc").weight[1, :3] = 0.0
    (row,) = rows(victim, 1)
    entered, fired = inputs_of(victim, digits(1)[0])
    assert list(row["layers"]) == list(entered)
    kinds = set()
    for name, steps in entered.items():
        layer: Any = victim.body.get_submodule(name)
        weights = layer.weight.tolist()
        if isinstance(layer, nn.Linear):
            found = [synapses.linear(step, weights) for step in steps.tolist()]
        else:
            found = [synapses.convolution(step, weights, layer.stride[0], layer.padding[0]) for step in steps.tolist()]
        assert row["layers"][name] == [sum(column) for column in zip(*found, strict=True)], name
        kinds |= {kind for kind in (0, 1) if row["layers"][name][kind]}
    assert kinds == {0, 1}  # both ACs and MACs were seen
    expected = {
        name: [sum(v != 0 for v in spikes.flatten().tolist()), spikes.numel()] for name, spikes in fired.items()
    }
    assert row["sites"] == expected


def test_images_are_counted_alone_and_the_victim_is_left_as_it_was() -> None:
    victim = trained("direct", steps=3)
    with untouched(victim):
        together = rows(victim, 4)
    assert together == [row for first in range(4) for row in rows(victim, 1, first)]
    assert len({tuple(row["layers"]["conv1"]) for row in together}) > 1


def test_a_real_code_makes_macs_and_spikes_make_acs() -> None:
    for encoder, silent in (("direct", 0), ("phase", 1)):
        (row,) = rows(trained(encoder, steps=3), 1)
        assert row["layers"]["conv1"][silent] == 0
        assert row["layers"]["conv1"][1 - silent] > 0
        assert row["layers"]["layer1.0.conv1"][1] == 0  # behind neurons and a max pool
        assert row["layers"]["fc"][0] == 0  # behind a mean over the map


def test_the_summary_is_arithmetic_on_the_rows() -> None:
    rows = held([
        {"kind": "energy", "image": i, "label": 0, "steps": 4, "layers": {"a": [10 * i, 0, 100], "b": [0, 5, 50]},
         "sites": {"s": [i, 8], "u": [4, 32]}}
        for i in (1, 3)
    ])  # fmt: skip
    found = energy.summarise([made("clean"), *rows])
    assert found is not None
    assert found["images"] == 2
    assert (found["effective_acs"], found["effective_macs"], found["dense"]) == (20, 5, 150)
    assert found["synaptic_operations"] == 25
    assert found["energy_pj"] == pytest.approx(20 * 0.9 + 5 * 4.6)
    assert found["dense_energy_pj"] == pytest.approx(150 * 4.6)
    assert found["spikes"] == 6
    assert found["firing_rate"] == pytest.approx(6 / 40)
    assert found["activation_sparsity"] == pytest.approx(34 / 40)
    assert found["sites"] == {"s": {"firing_rate": 0.25}, "u": {"firing_rate": 0.125}}
    assert energy.summarise([made("clean")]) is None
