"""The scan in Triton, by its interpreter on the CPU, against the neuron's own loop; on a GPU see test_native.py."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

CODE = """
import itertools, torch
from spikeproof import native, parts
from spikeproof.native import _gpu
from spikeproof.neurons.if_ import IF
from spikeproof.neurons.lif import LIF
from spikeproof.neurons.plif import PLIF
from spikeproof.tensors import heaviside

x, upstream = torch.randn(2, 7, 3, 201, generator=torch.Generator().manual_seed(3))
neurons = [
    lambda **o: IF(**o), lambda **o: LIF(tau=2.0, **o), lambda **o: LIF(tau=4.0, decay_input=False, **o),
    lambda **o: PLIF(init_tau=2.3, **o).requires_grad_(False),
    lambda **o: PLIF(init_tau=1.4, decay_input=False, **o).requires_grad_(False),
]
shapes = ["atan", "sigmoid", "triangle", "rectangle", "gaussian"]
paths = [(True, False), (False, False), (True, True), (False, True)]
for i, (make, reset) in enumerate(itertools.product(neurons, (0.0, -0.4, None))):
    node = make(v_threshold=0.8, v_reset=reset)
    spikes, finite = _gpu.scan(node.known(), x)
    assert finite
    assert torch.equal(spikes, node.run(x, lambda height, step: heaviside(height)))
    for name in (shapes[i % 5], shapes[(i + 2) % 5]):
        time, through = paths[i % 4]
        rule = parts.find("rules", name)(alpha=1.3, through_time=time, through_reset=through, fused=False)
        point = x.clone().requires_grad_()
        (plain,) = torch.autograd.grad(rule(node, point, "site"), point, upstream)
        slope = native.Slope(name, 1.3, time, through, node.gains())
        torch.testing.assert_close(_gpu.scan_backward(node.known(), slope, x, upstream), plain, rtol=2e-5, atol=2e-6)
bad = x.clone()
bad[3, 1, 200] = float("nan")
assert not _gpu.scan(IF().known(), bad)[1]
print("done")
"""


def test_every_neuron_and_shape_in_the_interpreter() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    told = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=False)
    assert told.stdout.strip() == "done", told.stderr
