"""What the comparisons with other toolkits share: one small ReLU network, the images, our side, and the verdict.

Both sides attack the same frozen network on images of scikit-learn's digits that it was not trained on. The random
starts differ, so single images may, and one run's accuracy scatters by half a point: the means over a few seeds are
held against each other.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikeproof.data.digits import Digits
from spikeproof.encoders.direct import Direct
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.rules.atan import ATan
from spikeproof.tensors import image_keys
from spikeproof.types import Loss, Rule
from spikeproof.victims.scene import Scene
from spikeproof.victims.victim import Victim

__all__ = ["EPS", "SEEDS", "compare", "images", "network", "ours", "percent", "survives"]

TRAINED_ON, COUNT = 800, 500
SEEDS = (0, 1, 2)
EPS = 0.1
"""A tenth of the grey range in L-inf: about half of the images survive."""


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


class Body(nn.Module):
    """The network as the body of a victim: no time, no spikes, no use for a rule."""

    in_channels, classes = 1, 10

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def classify(self, z: Tensor, rule: Rule) -> Tensor:
        return self.net(z[0])  # type: ignore[no-any-return]


def ours(attack: Any, loss: Loss, threat: Any, seeds: tuple[int, ...] = SEEDS) -> Tensor:
    """Which images survive, (seeds, B) bool. An image that is wrong before the attack does not."""
    x, y, ids = images("test")
    victim, found = Victim(Body(network()), Direct(), steps=1).eval(), []
    for seed in seeds:
        scene = Scene(victim, x, y, image_keys(seed, ids), "pixels")
        adversarial = attack(scene.objective(loss), scene.start, threat, WhiteBox(ATan()), scene.keys)
        scene.check_budget(repr(attack), adversarial, threat)
        found.append(survives(adversarial))
    return torch.stack(found)


def survives(x: Tensor) -> Tensor:
    """The verdict on both sides: clean right and attacked right."""
    clean, y, _ = images("test")
    with torch.no_grad():
        return (network()(clean).argmax(1) == y) & (network()(x).argmax(1) == y)


def percent(alive: Tensor) -> float:
    return 100 * alive.double().mean().item()


def compare(one: Tensor, other: Tensor, points: float) -> None:
    """Mean robust accuracies in percent; neither nearly 0 nor nearly 100, where any two attacks agree."""
    found, expected = percent(one), percent(other)
    print(f"ours {found:.2f} %, the peer {expected:.2f} %")
    assert 10 < expected < 90
    assert abs(found - expected) <= points
