"""What an inference costs: spikes, synaptic operations as NeuroBench counts them, and the usual estimate in joules.

A synaptic operation is one input that is not zero meeting one weight that is not zero: an accumulate (AC) where the
layer's input is spikes, a multiply-accumulate (MAC) where it is not. Biases, batch-norms and membranes are not counted.
Source: Yik et al., NeuroBench, Nature Communications 16 (2025); the energies: Horowitz, ISSCC 2014, 45 nm, 32-bit
floating point: 0.9 pJ an addition, 3.7 pJ a multiplication. It is an estimate of arithmetic alone; memory costs more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from spikeproof.errors import SpikeproofError

__all__ = ["AC_PJ", "MAC_PJ", "summarise"]

Row = Mapping[str, Any]

AC_PJ = 0.9
"""Picojoules of an accumulate."""

MAC_PJ = 4.6
"""Picojoules of a multiply-accumulate."""


def summarise(rows: Iterable[Row]) -> dict[str, Any] | None:
    """Means over the images of the rows of kind 'energy', per inference, as plain JSON; None where there are none.

    `firing_rate`: spikes per neuron and step over all spiking layers, in [0,1]; `activation_sparsity`: 1 less that;
    `spikes`; `effective_acs`, `effective_macs` and `dense` (every connection, zeros as well); `synaptic_operations`,
    the first two together; `energy_pj`, and `dense_energy_pj` if every connection were a MAC. `layers` and `sites` hold
    the operations of each layer and the firing rate of each layer of neurons. SpikeproofError: an image comes twice.
    """
    some = [row for row in rows if row["kind"] == "energy"]
    if not some:
        return None
    if len({row["image"] for row in some}) < len(some):
        mend = "the rows are damaged: run the cell anew"
        raise SpikeproofError("one row of energy for an image", "two", mend=mend)
    layers = {
        name: dict(zip(("effective_acs", "effective_macs", "dense"), _means(some, "layers", name), strict=True))
        for name in some[0]["layers"]
    }
    counts = {name: _means(some, "sites", name) for name in some[0]["sites"]}
    acs, macs, dense = (_total(layers, kind) for kind in ("effective_acs", "effective_macs", "dense"))
    spikes, places = (sum(count[i] for count in counts.values()) for i in (0, 1))
    rate = spikes / places if places else None
    return {
        "images": len(some),
        "steps": some[0]["steps"],
        "firing_rate": rate,
        "activation_sparsity": None if rate is None else 1 - rate,
        "spikes": spikes,
        "effective_acs": acs,
        "effective_macs": macs,
        "dense": dense,
        "synaptic_operations": acs + macs,
        "energy_pj": AC_PJ * acs + MAC_PJ * macs,
        "dense_energy_pj": MAC_PJ * dense,
        "layers": layers,
        "sites": {name: {"firing_rate": count[0] / count[1]} for name, count in counts.items()},
    }


def _means(rows: Sequence[Row], field: str, name: str) -> list[float]:
    return [sum(column) / len(rows) for column in zip(*(row[field][name] for row in rows), strict=True)]


def _total(layers: Mapping[str, Mapping[str, float]], kind: str) -> float:
    return sum(layer[kind] for layer in layers.values())
