"""Robust accuracy under our attacks and under torchattacks' (Kim 2020), on one small network, at equal budgets.

Run it in an environment with torchattacks and torchvision (make peers).
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peers.plain import EPS, SEEDS, compare, images, network, ours, survives
from torch import Tensor

from spikeproof.attacks.apgd import APGD
from spikeproof.attacks.fab import FAB
from spikeproof.attacks.pgd import PGD
from spikeproof.attacks.square import Square
from spikeproof.losses import cross_entropy, dlr, margin
from spikeproof.threats.l2 import L2
from spikeproof.threats.linf import Linf

torchattacks = pytest.importorskip("torchattacks", reason="the peer torchattacks is not installed here")


def theirs(make: Any, seeds: tuple[int, ...] = SEEDS, **options: Any) -> Tensor:
    """Which images survive, (seeds, B) bool."""
    x, y, _ = images("test")
    found = []
    for seed in seeds:
        attack = make(network(), **options)
        attack.seed = seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # its PGD draws from torch's own stream
            found.append(survives(attack(x, y)))
    return torch.stack(found)


def test_the_network_is_worth_attacking() -> None:
    assert survives(images("test")[0]).double().mean() > 0.9


each_norm = pytest.mark.parametrize("threat", [Linf(EPS), L2(0.5)], ids=["Linf", "L2"])


@pytest.mark.parametrize("name", ["ce", "dlr"])
@each_norm
def test_apgd(name: str, threat: Any) -> None:
    loss = {"ce": cross_entropy, "dlr": dlr}[name]
    peer = theirs(torchattacks.APGD, norm=threat.norm, eps=threat.eps, steps=100, loss=name)
    compare(ours(APGD(steps=100), loss, threat), peer, points=1.0)


@each_norm
def test_apgd_targeted(threat: Any) -> None:
    """Targeted DLR towards each of the nine other classes, by clean rank."""
    peer = theirs(torchattacks.APGDT, (0,), norm=threat.norm, eps=threat.eps, steps=100, n_classes=10)
    compare(ours(APGD(steps=100, targets=9), dlr, threat, (0,)), peer, points=1.0)


@pytest.mark.parametrize("targets", [0, 9])
@each_norm
def test_fab(threat: Any, targets: int) -> None:
    """Without restarts nothing is random on either side."""
    options = {"norm": threat.norm, "eps": threat.eps, "steps": 50, "n_classes": 10}
    peer = theirs(torchattacks.FAB, (0,), **options, multi_targeted=targets > 0)
    compare(ours(FAB(steps=50, targets=targets), margin, threat, (0,)), peer, points=1.0)


def test_pgd() -> None:
    """The last iterate, as torchattacks returns it."""
    peer = theirs(torchattacks.PGD, eps=EPS, alpha=EPS / 8, steps=20)
    compare(ours(PGD(steps=20, step_size=EPS / 8, keep="last"), cross_entropy, Linf(EPS)), peer, points=1.0)


def reaching() -> Any:
    """torchattacks' Square with patches up to the border: as released they never reach the last row and column."""

    class Reaching(torchattacks.Square):  # type: ignore[misc, name-defined]
        def random_int(self, low: int = 0, high: int = 1, shape: Any = (1,)) -> Tensor:
            return super().random_int(low, high + 1, shape)  # type: ignore[no-any-return]

    return Reaching


def test_square() -> None:
    """Two points: a run of the peer scatters by a whole one, as it draws one place and sign for all images at once."""
    found = ours(Square(queries=500), margin, Linf(EPS))
    options = {"eps": EPS, "n_queries": 500, "loss": "margin"}
    compare(found, theirs(reaching(), **options), points=2.0)
    # On 8x8 pixels a row and a column are a quarter of the image: as released, the peer breaks fewer images.
    assert found.sum() < theirs(torchattacks.Square, **options).sum()
