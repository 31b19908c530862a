"""Robust accuracy under our PGD and under foolbox's (Rauber et al. 2017), on one small network, at equal budgets.

Run it in an environment with foolbox (make peers).
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peers.plain import EPS, SEEDS, compare, images, network, ours, percent, survives
from torch import Tensor

from spikeproof.attacks.apgd import APGD
from spikeproof.attacks.fab import FAB
from spikeproof.attacks.pgd import PGD
from spikeproof.losses import cross_entropy
from spikeproof.threats.l1 import L1
from spikeproof.threats.l2 import L2
from spikeproof.threats.linf import Linf

foolbox = pytest.importorskip("foolbox", reason="the peer foolbox is not installed here")


def theirs(attack: Any, eps: float) -> Tensor:
    """Which images survive, (seeds, B) bool."""
    x, y, _ = images("test")
    model = foolbox.PyTorchModel(network(), bounds=(0, 1), device="cpu")
    found = []
    for seed in SEEDS:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            _, adversarial, _ = attack(model, x, y, epsilons=eps)
        found.append(survives(adversarial))
    return torch.stack(found)


@pytest.mark.parametrize(
    ("make", "threat", "start"),
    [("LinfProjectedGradientDescentAttack", Linf(EPS), True), ("L2ProjectedGradientDescentAttack", L2(0.5), False)],
    ids=["Linf", "L2"],
)
def test_pgd(make: str, threat: Any, start: bool) -> None:
    """The last iterate, as foolbox returns it. Its L2 starts lie near the surface, where ours have a uniform radius."""
    step = threat.eps / 8
    peer = theirs(getattr(foolbox.attacks, make)(abs_stepsize=step, steps=20, random_start=start), threat.eps)
    attack = PGD(steps=20, step_size=step, random_start=start, keep="last")
    compare(ours(attack, cross_entropy, threat), peer, points=1.0)


def test_l1_attacks_break_no_fewer_images() -> None:
    """Sparse l1 descent (Tramer and Boneh 2019) projects onto the ball, then clips: it wastes budget at the box."""
    threat = L1(1.5)
    peer = percent(theirs(foolbox.attacks.SparseL1DescentAttack(quantile=0.95, steps=100), threat.eps))
    pgd = percent(ours(PGD(steps=100), cross_entropy, threat))
    apgd = percent(ours(APGD(steps=100), cross_entropy, threat))
    fab = percent(ours(FAB(steps=50), cross_entropy, threat, (0,)))
    print(f"our PGD {pgd:.2f} %, our APGD {apgd:.2f} %, our FAB {fab:.2f} %, the peer {peer:.2f} %")
    assert 10 < apgd <= pgd + 1.0
    assert pgd <= peer + 1.0
    assert abs(fab - apgd) <= 3.0
