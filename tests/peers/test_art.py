"""Robust accuracy under our PGD and under that of the Adversarial Robustness Toolbox (Nicolae et al. 2018).

One small network, equal budgets. Run it in an environment with adversarial-robustness-toolbox (make peers).
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from peers.plain import EPS, SEEDS, compare, images, network, ours, survives
from torch import Tensor, nn

from spikeproof.attacks.pgd import PGD
from spikeproof.losses import cross_entropy
from spikeproof.threats.l2 import L2
from spikeproof.threats.linf import Linf

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it imports from a namespace that SciPy gives up
    evasion = pytest.importorskip("art.attacks.evasion", reason="the peer ART is not installed here")
    classification = pytest.importorskip("art.estimators.classification")


def theirs(norm: str, eps: float, step: float, steps: int, start: bool) -> Tensor:
    """Which images survive, (seeds, B) bool."""
    x, y, _ = images("test")
    model = classification.PyTorchClassifier(
        network(), loss=nn.CrossEntropyLoss(), input_shape=x.shape[1:], nb_classes=10, clip_values=(0, 1),
        device_type="cpu",
    )  # fmt: skip
    attack = evasion.ProjectedGradientDescent(
        model, norm={"Linf": np.inf, "L2": 2}[norm], eps=eps, eps_step=step, max_iter=steps,
        num_random_init=int(start), batch_size=len(x), verbose=False,
    )  # fmt: skip
    found = []
    for seed in SEEDS:
        np.random.seed(seed)  # its starts come from NumPy's global stream
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            found.append(survives(torch.from_numpy(attack.generate(x.numpy(), y.numpy()))))
    return torch.stack(found)


@pytest.mark.parametrize(("threat", "start"), [(Linf(EPS), True), (L2(0.5), False)], ids=["Linf", "L2"])
def test_pgd(threat: Any, start: bool) -> None:
    """The last iterate, as ART returns it. Its L2 starts lie near the surface, where ours have a uniform radius."""
    step = threat.eps / 8
    peer = theirs(threat.norm, threat.eps, step, 20, start)
    attack = PGD(steps=20, step_size=step, random_start=start, keep="last")
    compare(ours(attack, cross_entropy, threat), peer, points=1.0)
