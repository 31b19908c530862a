"""SpikingJelly 2's counter of synaptic operations on the same forward pass; wants spikingjelly >= 2.

It counts inputs that are 0 or 1 alone and every weight, zero or not: equal where all that enters a layer are spikes, as
in a network whose blocks join before the neuron, and whose last map is a single place.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spikeproof import parts
from spikeproof.measures.energy import energy_rows
from spikeproof.metrics import energy
from spikeproof.tensors import exact, fold, image_keys, uniform
from spikeproof.victims.batch import Batch
from spikeproof.victims.victim import Victim

try:
    from spikingjelly.activation_based.op_counter import DispatchCounterMode, SynOpCounter
except Exception as error:
    pytest.skip(f"SpikingJelly 2 does not import here: {error!r}", allow_module_level=True)


def pixels(ids: Tensor) -> Tensor:
    return uniform(image_keys(5, ids), (3, 32, 32))


@pytest.mark.parametrize("seed", [0, 1])
def test_accumulates_are_those_of_spikingjelly(seed: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        spec = {"name": "spiking_resnet", "depth": 18, "pool": "max"}
        neuron = {"name": "if", "v_threshold": 0.3}
        body = parts.build("models", spec, in_channels=3, classes=10, neuron=lambda: parts.build("neurons", neuron))
    victim = Victim(body, parts.build("encoders", {"name": "phase"}), 2).eval()
    ids = torch.arange(2)
    batch = Batch.of(victim, pixels(ids), torch.zeros(2, dtype=torch.int64), ids, 0)
    found = energy.summarise(energy_rows(victim, batch))
    counter = SynOpCounter()
    with torch.no_grad(), DispatchCounterMode([counter]):
        victim(pixels(ids), exact, fold(image_keys(0, ids), "energy"))
    assert found is not None
    assert found["effective_macs"] == 0
    assert 2 * found["effective_acs"] == counter.get_total()
