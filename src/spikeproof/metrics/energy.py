"""What an inference costs: spikes, synaptic operations as NeuroBench counts them, and the usual estimate in joules.

A synaptic operation is one input that is not zero meeting one weight that is not zero: an accumulate (AC) where the
layer's input is spikes, a multiply-accumulate (MAC) where it is not. Biases, batch-norms and membranes are not counted.
Source: Yik et al., NeuroBench, Nature Communications 16 (2025); the energies: Horowitz, ISSCC 2014, 45 nm, 32-bit
floating point: 0.9 pJ an addition, 3.7 pJ a multiplication. It is an estimate of arithmetic alone; memory costs more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from spikeproof.errors import SpikeproofError
from spikeproof.metrics.summaries import EnergySummary, Layer
from spikeproof.rows import EnergyRow, Row, of_kind

__all__ = ["AC_PJ", "MAC_PJ", "summarise"]

AC_PJ = 0.9
"""Picojoules of an accumulate."""

MAC_PJ = 4.6
"""Picojoules of a multiply-accumulate."""


def summarise(rows: Iterable[Row]) -> EnergySummary | None:
    """Means over the images of the rows of kind 'energy'; None where there are none. SpikeproofError: an image comes
    twice."""
    some = of_kind(rows, EnergyRow)
    if not some:
        return None
    if len({row["image"] for row in some}) < len(some):
        mend = "the rows are damaged: run the cell anew"
        raise SpikeproofError("one row of energy for an image", "two", mend=mend)
    layers = {name: _operations(some, name) for name in some[0]["layers"]}
    counts = {name: _means([row["sites"][name] for row in some]) for name in some[0]["sites"]}
    acs = sum(layer["effective_acs"] for layer in layers.values())
    macs = sum(layer["effective_macs"] for layer in layers.values())
    dense = sum(layer["dense"] for layer in layers.values())
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


def _operations(rows: Sequence[EnergyRow], name: str) -> Layer:
    acs, macs, dense = _means([row["layers"][name] for row in rows])
    return {"effective_acs": acs, "effective_macs": macs, "dense": dense}


def _means(counts: Sequence[Sequence[int]]) -> list[float]:
    return [sum(column) / len(counts) for column in zip(*counts, strict=True)]
