"""The field's attacks on events against what is known of them: on linear read-outs, and step by step."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spikeproof import parts
from spikeproof.attacks.spike_gradient import spikes_of
from spikeproof.encoders.frames import Frames
from spikeproof.errors import UsageError
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.losses import cross_entropy, margin
from spikeproof.rules.atan import ATan
from spikeproof.tensors import exact, image_keys
from spikeproof.threats.flips import Flips
from spikeproof.threats.insert import Insert
from spikeproof.threats.retime_b1 import RetimeB1
from spikeproof.types import Rule
from spikeproof.victims.scene import Scene
from spikeproof.victims.victim import Victim

ESTIMATOR = WhiteBox(ATan())
SHAPE = (2, 2, 2, 2)  # sixteen cells
FREE: list[dict[str, Any]] = [
    {"name": "sparse_dynamic", "first": 3},
    {"name": "spike_fool", "reach": 1.0},
    {"name": "spike_gradient", "steps": 40},
    {"name": "gumbel", "draws": 1},
]


class Weighed(nn.Module):
    """K classes by weighted sums of the cells and a bias."""

    in_channels = 2

    def __init__(self, weights: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.w, self.b, self.classes = weights, bias, len(bias)

    def classify(self, z: Tensor, rule: Rule) -> Tensor:
        return z.transpose(0, 1).flatten(1) @ self.w.t() + self.b


def scene(weights: Tensor, bias: Tensor, x: Tensor) -> Scene:
    """The grids, with what the network says of them as labels."""
    victim = Victim(Weighed(weights, bias), Frames(), SHAPE[0]).eval()
    keys = image_keys(0, torch.arange(len(x)))
    return Scene(victim, x, victim(x, exact, keys).argmax(1), keys, "events")


def two_classes(seed: int, count: int = 8) -> tuple[Scene, Tensor]:
    """Of a linear read-out, and what one cell more adds to the margin, (count,16)."""
    stream = np.random.default_rng(seed)
    x = torch.from_numpy(stream.integers(0, 2, (count, *SHAPE))).double()
    weights = torch.stack([torch.zeros(16).double(), torch.from_numpy(stream.normal(size=16))])
    there = scene(weights, torch.tensor([0.0, 0.05]).double(), x)
    return there, torch.where(there.y[:, None] == 1, -weights[1], weights[1])


def attacked(spec: dict[str, Any], there: Scene, threat: Any, loss: Any = margin) -> Tensor:
    found: Tensor = parts.build("attacks", spec)(there.objective(loss), there.start, threat, ESTIMATOR, there.keys)
    assert (threat.distance(found, there.start) <= threat.eps).all()
    assert set(found.unique().tolist()) <= {0.0, 1.0}  # hard grids alone, whatever was relaxed on the way
    return found


def fewest(there: Scene, adds: Tensor) -> list[int]:
    """The least number of flips that changes each answer: the largest gains first, worked out anew."""
    flat = there.start.flatten(1)
    gap = margin(there.logits(there.start, exact, there.keys), there.y)
    gains = (adds * (1 - 2 * flat)).clamp(min=0).sort(1, descending=True).values.cumsum(1)
    return [int((gain + g <= 0).sum()) + 1 for gain, g in zip(gains, gap, strict=True)]


@pytest.mark.parametrize("spec", FREE[:2], ids=lambda spec: str(spec["name"]))
@pytest.mark.parametrize("seed", range(3))
def test_on_a_linear_read_out_the_fewest_moves_are_found(spec: dict[str, Any], seed: int) -> None:
    """SDA: generation picks the largest weights, and reduction leaves the shortest set; SpikeFool: the plane is the
    truth. One flip less, and it stands."""
    there, adds = two_classes(seed)
    found = attacked(spec, there, Flips(16))
    assert (there.judge(found, "v").predicted != there.y).all()
    assert Flips(16).distance(found, there.start).tolist() == fewest(there, adds)


@pytest.mark.parametrize("spec", FREE, ids=lambda spec: str(spec["name"]))
def test_what_can_fall_to_a_budget_falls(spec: dict[str, Any]) -> None:
    for seed, k in itertools.product(range(2), (2, 4)):
        there, adds = two_classes(seed)
        found = attacked(spec, there, Flips(k))
        fallen = there.judge(found, "v").predicted != there.y
        assert fallen.tolist() == [least <= k for least in fewest(there, adds)]


@pytest.mark.parametrize("spec", FREE, ids=lambda spec: str(spec["name"]))
def test_only_events_that_may_be_added_are(spec: dict[str, Any]) -> None:
    there, _ = two_classes(5)
    found = attacked(spec, there, Insert(3))
    assert (found >= there.start).all()
    assert (found != there.start).any()


def test_spikes_are_drawn_by_size_between_never_and_always() -> None:
    keys = image_keys(1, torch.arange(2000))
    gradient = torch.tensor([0.2, -1.0, 0.6, -0.6, 2.2, 2.2]).view(1, 6, 1, 1, 1).expand(2000, -1, -1, -1, -1)
    x = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0, 1.0]).view(1, 6, 1, 1, 1).expand(2000, -1, -1, -1, -1)
    step = spikes_of(gradient, x, keys, 0.05).flatten(1)
    assert step.unique().tolist() == [-1.0, 0.0, 1.0]
    share = step.abs().mean(0)
    assert share[[0, 4, 5]].tolist() == [0.0, 1.0, 0.0]  # the smallest never, the largest always, and no cell twice
    assert share[1] == pytest.approx(0.4, abs=0.05)  # (1 - 0.2) / (2.2 - 0.2)
    assert share[2] == pytest.approx(0.2, abs=0.04)
    blind = spikes_of(torch.zeros_like(x), x, keys, 0.05).flatten(1)
    assert blind.abs().mean() == pytest.approx(0.05, abs=0.01)
    assert ((x.flatten(1) + blind) * (1 - x.flatten(1) - blind) == 0).all()


def test_a_zero_gradient_of_one_image_is_no_other_images() -> None:
    """One is blind and flips by chance, beside one that is not."""
    keys = image_keys(1, torch.arange(2))
    gradient = torch.zeros(2, 400, 1, 1, 1)
    gradient[1, 7] = 1.0
    step = spikes_of(gradient, torch.zeros_like(gradient), keys, 0.5).flatten(1)
    assert step[0].sum() > 100
    assert step[1].nonzero().flatten().tolist() == [7]


AIMED: list[dict[str, Any]] = [
    {"name": "top_events"},
    {"name": "spike_gradient", "steps": 40},
    {"name": "gumbel", "draws": 1},
    {"name": "retiming"},
]


@pytest.mark.parametrize("spec", AIMED, ids=lambda spec: str(spec["name"]))
@pytest.mark.parametrize("loss", [margin, cross_entropy])
def test_a_targeted_attack_gets_the_class_that_it_aims_at(spec: dict[str, Any], loss: Any) -> None:
    """Class 1 has the first half of the sensor for itself and class 2 the second; class 1 is the likelier always, so
    that an attack without a target, or with another one than it was given, does not end at class 2."""
    weights = torch.zeros(3, 16).double()
    late = torch.zeros(SHAPE)
    late[1] = 1.0
    weights[1] = 0.5 * late.flatten() * (torch.arange(16) % 2 == 0)
    weights[2] = 0.5 * late.flatten() * (torch.arange(16) % 2 == 1)
    x = torch.zeros(2, *SHAPE).double()
    x[:, 0] = 1.0
    there = scene(weights, torch.tensor([0.3, 0.2, 0.1]).double(), x)
    assert there.y.tolist() == [0, 0]
    threat = RetimeB1(4) if spec["name"] == "retiming" else Flips(4)
    attack = parts.build("attacks", spec)
    f = there.objective(loss)
    for rank in (1, 2):
        found = attack(f.aimed(rank), there.start, threat, ESTIMATOR, there.keys)
        assert there.logits(found, exact, there.keys).argmax(1).tolist() == [rank, rank]
    assert there.judge(attacked({**spec, "targets": 2}, there, threat, loss), "v").predicted.ne(there.y).all()


def test_a_target_that_alone_can_be_reached_is_reached_among_others() -> None:
    """The likeliest other class is told by no cell; an attack towards it alone finds nothing."""
    weights = torch.zeros(3, 16).double()
    weights[2] = 0.3
    x = torch.zeros(2, *SHAPE).double()
    for spec in AIMED[:1]:  # the others flip by chance where they see nothing
        there = scene(weights, torch.tensor([0.5, 0.2, 0.1]).double(), x)
        fallen = [
            (there.judge(attacked({**spec, "targets": n}, there, Flips(3)), "v").predicted == 2).all() for n in (1, 2)
        ]
        assert fallen == [False, True]


def test_retimes_are_refused_by_what_flips_and_options_that_are_none() -> None:
    there, _ = two_classes(0, 2)
    for spec in ({"name": "sparse_dynamic"}, {"name": "spike_fool"}, {"name": "gumbel"}):
        with pytest.raises(UsageError, match=r"free moves for .*got retime_b1.*flips.*retiming"):
            attacked(spec, there, RetimeB1(2))
    for wrong in ({"name": "spike_gradient", "share": 2.0}, {"name": "gumbel", "rate": 0.0},
                  {"name": "spike_fool", "reach": 0.5}, {"name": "sparse_dynamic", "first": 0},
                  {"name": "top_events", "targets": -1}):  # fmt: skip
        with pytest.raises(UsageError):
            parts.build("attacks", wrong)
