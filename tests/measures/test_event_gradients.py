"""Where the gradient of a grid of events lies: cell by cell against a plain loop, and in the rows of a network."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import spikeproof
from spikeproof.encoders.frames import Frames
from spikeproof.measures.gradients import gradient_rows
from spikeproof.metrics.sparsity import event_measures
from spikeproof.models.event_vgg import EventVGG
from spikeproof.neurons.if_ import IF
from spikeproof.rules.atan import ATan
from spikeproof.tensors import image_keys, uniform
from spikeproof.victims.batch import Batch
from spikeproof.victims.victim import Victim

CELLS = 2 * 2 * 1 * 3


def loop(g: Tensor, x: Tensor) -> dict[str, float]:
    """Of one grid (T,2,H,W)."""
    zeros, cells, size = {True: 0, False: 0}, {True: 0, False: 0}, {True: 0.0, False: 0.0}
    total, on, time, place = 0.0, 0.0, [0.0] * g.shape[0], {}
    for t, p, i, j in torch.cartesian_prod(*(torch.arange(n) for n in g.shape)).tolist():
        value, event = abs(float(g[t, p, i, j])), bool(x[t, p, i, j])
        cells[event] += 1
        zeros[event] += value == 0
        size[event] += value
        total += value
        on += value * p
        time[t] += value
        place[i, j] = place.get((i, j), 0.0) + value
    return {
        "zero_share_events": zeros[True] / cells[True] if cells[True] else math.nan,
        "zero_share_empty": zeros[False] / cells[False] if cells[False] else math.nan,
        "l1_share_events": size[True] / total if total else math.nan,
        "l1_share_on": on / total if total else math.nan,
        "l1_gini_time": unequal(time),
        "l1_gini_space": unequal(list(place.values())),
    }


def unequal(values: list[float]) -> float:
    """Gini by its definition: the mean absolute difference over twice the mean."""
    total = sum(values)
    if total == 0:
        return math.nan
    return sum(abs(a - b) for a in values for b in values) / (2 * len(values) * total)


@given(
    st.lists(st.integers(-3, 3), min_size=CELLS, max_size=CELLS),
    st.lists(st.booleans(), min_size=CELLS, max_size=CELLS),
)
def test_a_grid_is_measured_as_a_plain_loop_measures_it(slopes: list[int], events: list[bool]) -> None:
    g, x = (torch.tensor(v).double().view(1, 2, 2, 1, 3) for v in (slopes, events))
    found = {name: float(value) for name, value in event_measures(g, x).items()}
    assert found == pytest.approx(loop(g[0], x[0]), nan_ok=True)


def test_rows_of_an_event_network_say_where_its_gradient_lies() -> None:
    torch.manual_seed(0)
    body = EventVGG(in_channels=2, classes=3, neuron=IF, depth=1, width=4, hidden=8, votes=0, size=8)
    body.get_submodule("conv_fc.1").bias.data += 0.7  # type: ignore[operator, union-attr]
    victim = Victim(body, Frames(), 2).eval()
    x = (uniform(image_keys(0, torch.arange(3)), (2, 2, 8, 8)) < 0.3).float()
    batch = Batch.of(victim, x, torch.arange(3), torch.arange(3), 0)
    rows = list(gradient_rows(victim, batch, rule=ATan(), scalars=("ce",), layers=False))
    image = [row for row in rows if row["site"] == "image"]
    for n, row in enumerate(image):
        assert 0 < row["summed"]["l1_share_on"] < 1  # type: ignore[operator]
        assert len(row["steps"]["l1"]) == 2  # type: ignore[typeddict-item]
        assert math.fsum(row["steps"]["l1"]) == pytest.approx(row["summed"]["l1"], rel=1e-4)  # type: ignore
        assert row["size"] == x[n].numel()
    assert all("l1_share_on" not in row["summed"] for row in rows if row["site"] != "image")
    told = spikeproof.sparsity(victim, x, torch.arange(3))
    assert told["image"]["zero_share_events"] is not None
