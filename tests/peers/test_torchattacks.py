"""Robust accuracy under our attacks and under torchattacks' (Kim 2020), on one small network, at equal budgets.

Both attack the same frozen ReLU network on images of scikit-learn's digits that it was not trained on. The random
starts differ, so single images may, and one run's accuracy scatters by half a point: the means over a few seeds are
held against each other. Run it in an environment with torchattacks and torchvision.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikeproof.attacks.apgd import APGD
from spikeproof.attacks.pgd import PGD
from spikeproof.attacks.square import Square
from spikeproof.data.digits import Digits
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.losses import cross_entropy, dlr, margin
from spikeproof.rules.atan import ATan
from spikeproof.tensors import image_keys
from spikeproof.threats import L2, Linf
from spikeproof.types import Loss, Score

torchattacks = pytest.importorskip("torchattacks", reason="the peer torchattacks is not installed here")

TRAINED_ON, COUNT = 800, 500
SEEDS = (0, 1, 2)
EPS = 0.1
"""A tenth of the grey range: about half of the images survive."""


@cache
def images(which: str) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels (B,1,8,8), labels, ids: 800 to train on, or 500 others."""
    data = Digits().load("train")
    ids = torch.arange(TRAINED_ON) if which == "train" else torch.arange(TRAINED_ON, TRAINED_ON + COUNT)
    return data.at(ids)  # type: ignore[arg-type, return-value]


@cache
def network() -> nn.Module:
    """Two convolutions, trained from a fixed seed for a few seconds."""
    x, y, _ = images("train")
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * 16, 10),
        )  # fmt: skip
        optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
        for epoch in range(12):
            order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))
            for batch in order.split(64):
                optimiser.zero_grad()
                F.cross_entropy(net(x[batch]), y[batch]).backward()
                optimiser.step()
    return net.eval().requires_grad_(False)


def ours(attack: Any, loss: Loss, threat: Any) -> Tensor:
    """Which images survive, (seeds, B) bool. An image that is wrong before the attack does not."""
    x, y, ids = images("test")

    def f(point: Tensor, rule: Any, salt: int) -> Score:
        logits = network()(point)
        return Score(loss(logits, y), logits.detach().argmax(1) != y)

    found = []
    for seed in SEEDS:
        adversarial = attack(f, x, threat, WhiteBox(ATan()), image_keys(seed, ids))
        assert (threat.distance(adversarial, x) <= threat.eps + 1e-6).all()
        found.append(survives(adversarial))
    return torch.stack(found)


def theirs(make: Any, **options: Any) -> Tensor:
    x, y, _ = images("test")
    found = []
    for seed in SEEDS:
        attack = make(network(), **options)
        attack.seed = seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # its PGD draws from torch's own stream
            found.append(survives(attack(x, y)))
    return torch.stack(found)


def survives(x: Tensor) -> Tensor:
    """The verdict on both sides: clean right and attacked right."""
    clean, y, _ = images("test")
    with torch.no_grad():
        return (network()(clean).argmax(1) == y) & (network()(x).argmax(1) == y)


def compare(one: Tensor, other: Tensor, points: float) -> None:
    """Mean robust accuracies in percent; neither nearly 0 nor nearly 100, where any two attacks agree."""
    found, expected = (100 * alive.double().mean().item() for alive in (one, other))
    print(f"ours {found:.2f} %, torchattacks {expected:.2f} %")
    assert 10 < expected < 90
    assert abs(found - expected) <= points


def test_the_network_is_worth_attacking() -> None:
    x, y, _ = images("test")
    with torch.no_grad():
        assert (network()(x).argmax(1) == y).double().mean() > 0.9


@pytest.mark.parametrize("name", ["ce", "dlr"])
@pytest.mark.parametrize("threat", [Linf(EPS), L2(0.5)], ids=["Linf", "L2"])
def test_apgd(name: str, threat: Any) -> None:
    loss = {"ce": cross_entropy, "dlr": dlr}[name]
    peer = theirs(torchattacks.APGD, norm=threat.norm, eps=threat.eps, steps=100, loss=name)
    compare(ours(APGD(steps=100), loss, threat), peer, points=1.0)


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
