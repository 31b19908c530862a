"""Panels under threats of whole events: the truth of a linear network is found; what does not fit is named; no attack
cheats."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import pytest
import torch
from small import moves_events, retimes
from subjects import brief
from torch import Tensor, nn

import spikeproof
from spikeproof import parts
from spikeproof.data import from_frames
from spikeproof.encoders.direct import Direct
from spikeproof.encoders.frames import Frames
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluation.judge import Case, attack_rows
from spikeproof.evaluation.roles import TIERS
from spikeproof.evaluation.tiers import tier_of
from spikeproof.losses import margin
from spikeproof.rules.atan import ATan
from spikeproof.tensors import image_keys, normal, uniform
from spikeproof.threats.counts import Counts
from spikeproof.threats.delete import Delete
from spikeproof.threats.flips import Flips
from spikeproof.threats.insert import Insert
from spikeproof.threats.polarity import Polarity
from spikeproof.threats.retime_b0 import RetimeB0
from spikeproof.threats.retime_b1 import RetimeB1
from spikeproof.threats.retime_binf import RetimeBinf
from spikeproof.types import Rule, Threat
from spikeproof.victims.batch import Batch
from spikeproof.victims.scene import Scene
from spikeproof.victims.victim import Victim

T, SIDE, N = 3, 4, 24
SHAPE = (T, 2, SIDE, SIDE)
WEIGHT = normal(image_keys(1, torch.arange(1)), SHAPE)[0]


class Weighed(nn.Module):
    """Two classes by a weighted sum of the cells, whose gradient is the truth under every rule."""

    in_channels, classes = 2, 2

    def classify(self, z: Tensor, rule: Rule) -> Tensor:
        score = (z.transpose(0, 1) * WEIGHT).flatten(1).sum(1) - 0.01
        return torch.stack([torch.zeros_like(score), score], 1)


def victim(gain: float = 1.0) -> Victim:
    return Victim(Weighed(), Frames(gain), T).eval()


def grids() -> Tensor:
    return (uniform(image_keys(2, torch.arange(N)), SHAPE) > 0.7).float()


def answers(x: Tensor) -> Tensor:
    return ((x * WEIGHT).flatten(1).sum(1) > 0.01).long()


def falls(x: Tensor, threat: Any) -> Tensor:
    """Whether the best moves change the answer: the sum over the best k of what each move is worth, worked out anew."""
    y, flat = answers(x), x.flatten(1)
    way = torch.where(y == 1, -1.0, 1.0)[:, None]
    worth = way * WEIGHT.flatten() * (1 - 2 * flat)
    if isinstance(threat, Insert):
        worth = torch.where(flat == 0, worth, 0.0)
    if isinstance(threat, Delete):
        worth = torch.where(flat == 1, worth, 0.0)
    if isinstance(threat, Polarity):
        pairs = worth.view(-1, T, 2, SIDE, SIDE)
        worth = (pairs.sum(2) * (x[:, :, 0] != x[:, :, 1])).flatten(1)
    gain = worth.clamp(min=0).sort(1, descending=True).values[:, : int(threat.eps)].sum(1)
    score = (flat * WEIGHT.flatten()).sum(1) - 0.01
    return way[:, 0] * (score + way[:, 0] * gain) > 0


@pytest.mark.parametrize("threat", [Flips, Insert, Delete, Polarity])
def test_the_worst_case_of_a_linear_network_is_the_truth(threat: Any) -> None:
    x = grids()
    y = answers(x)
    found = spikeproof.evaluate(victim(), x, y, tier="smoke", eps=2, norm=threat.norm)
    rows = [row for row in found.rows if row["kind"] == "attack"]
    assert {(row["surface"], row["norm"], row["eps"]) for row in rows} == {("events", threat.norm, 2.0)}
    assert list(found.left()) == ["top-1", "top-10", "random-20"]
    fallen = {row["image"] for row in rows if row["fooled"]}
    truth = set(falls(x, threat(2)).nonzero().flatten().tolist())
    assert fallen == truth
    assert 0 < len(truth) < N
    assert all(row["distance"] in (0.0, 1.0, 2.0) for row in rows)


def retimed(x: Tensor, threat: Any) -> Tensor:
    """Whether the answer can be changed, by every grid there is of a line, and the cheapest of those of all lines."""
    y, way = answers(x), WEIGHT.flatten(1)
    fallen = []
    for grid, label in zip(x.flatten(2), y.tolist(), strict=True):
        side = -1.0 if label == 1 else 1.0
        gains = torch.zeros(int(threat.eps) + 1)  # at each price
        for line in range(grid.shape[1]):
            cells, more = grid[:, line], side * way[:, line]
            own: dict[int, float] = {}
            for new in itertools.permutations(cells.tolist()):
                moved = torch.tensor(new)
                price = int((moved - cells).cumsum(0).abs().sum())
                own[price] = max(own.get(price, -9.0), float(((moved - cells) * more).sum()))
            gains = torch.stack([
                torch.stack([gains[k - price] + gain for price, gain in own.items() if price <= k]).max()
                for k in range(len(gains))
            ])  # fmt: skip
        score = float((grid * way).sum()) - 0.01
        fallen.append(side * score + float(gains[-1]) > 0)
    return torch.tensor(fallen)


def test_the_worst_case_of_a_linear_network_under_retiming_is_the_truth() -> None:
    x = grids()
    y = answers(x)
    found = spikeproof.evaluate(victim(), x, y, tier="smoke", eps=2, norm="retime_b1")
    rows = [row for row in found.rows if row["kind"] == "attack"]
    assert {(row["surface"], row["norm"]) for row in rows} == {("events", "retime_b1")}
    truth = set(retimed(x, RetimeB1(2)).nonzero().flatten().tolist())
    assert {row["image"] for row in rows if row["fooled"]} == truth
    assert 0 < len(truth) < N
    told = {row["code"]: row for row in found.findings}
    assert all(told[code]["colour"] == "green" for code in ("D1", "D5", "D6", "D10", "D13", "D14", "D17", "D19"))
    assert "do not reach every grid" in told["D3"]["says"]
    assert told["D1"]["says"].startswith("broken by the top events of one gradient and not by top events in rounds")
    assert "pixel" not in told["D6"]["says"]


def test_audits_that_fit_are_green_and_those_that_do_not_say_why() -> None:
    x = grids()
    for norm, without in (("flips", set[str]()), ("insert", {"D3", "D4"})):
        found = spikeproof.evaluate(victim(), x, answers(x), tier="smoke", eps=2, norm=norm)
        told = {row["code"]: row for row in found.findings}
        assert all(told[code]["colour"] == "green" for code in ("D1", "D5", "D6", "D10", "D13", "D14", "D17", "D19"))
        for code in ("D11", "D12", *without):
            assert told[code]["colour"] == "not run"
            assert "whole events" in told[code]["says"] or "do not reach every grid" in told[code]["says"]
        assert (told["D3"]["colour"] == "green") == (not without)


@pytest.mark.parametrize("threat", [Flips(2), Polarity(2), Counts(2), RetimeB1(2), RetimeBinf(1)], ids=str)
def test_every_stage_of_every_tier_runs_under_every_threat(threat: Any) -> None:
    counts = isinstance(threat, Counts)
    x = (grids()[:6] / 255) if counts else grids()[:6]
    of = victim(255.0 if counts else 1.0)
    batch = Batch.of(of, x, answers(grids()[:6]), torch.arange(6), 0)
    for tier in TIERS:
        stages = brief(tier_of(tier, of, ATan(), threat)).stages
        assert {"one step", "plain", "random"} <= {stage.role for stage in stages}
        assert ("search" in {stage.role for stage in stages}) == (tier != "smoke")
    cases = {stage.name: stage.case for stage in stages}  # the last has all that the others have
    rows = attack_rows(of, batch, evaluation="panel", threats={"2": threat}, cases=cases)
    assert {row["attack"] for row in rows} == set(cases)
    assert max(row["distance"] for row in rows) <= 2


class Sly:
    """Returns grids that its threat does not allow."""

    def __init__(self, change: Any) -> None:
        self.change = change

    def __call__(self, f: Any, x0: Tensor, threat: Threat, estimator: Any, keys: Tensor) -> Tensor:
        return self.change(x0.clone())  # type: ignore[no-any-return]


def half(x: Tensor) -> Tensor:
    x[:, 0, 0, 0, 0] = 0.5
    return x


def turned(x: Tensor) -> Tensor:
    return x.flip(2)


def reversed_(x: Tensor) -> Tensor:
    return x.flip(1)


def emptied(x: Tensor) -> Tensor:
    return torch.zeros_like(x)


def two(x: Tensor) -> Tensor:
    x[:, 0, 0, 0, 0] = 2.0
    return x


@pytest.mark.parametrize(
    ("threat", "change", "told"),
    [
        (Flips(3), half, r"whole events, multiples of 1, from attack 'sly', got 0\.5.*project"),
        (Flips(96), two, r"\[0,1\] from attack 'sly'"),
        (Flips(3), emptied, r"within eps 3 .*distance up to [1-9]\d"),
        (Insert(96), emptied, r"distance up to inf"),
        (Delete(96), turned, r"distance up to inf"),
        (Polarity(96), emptied, r"distance up to inf"),
        (RetimeB0(96), emptied, r"distance up to inf"),
        (RetimeB1(96), turned, r"distance up to inf"),
        (RetimeBinf(0), reversed_, r"within eps 0 .*distance up to 2"),
    ],
)
def test_the_judge_refuses_what_is_no_such_grid(threat: Any, change: Any, told: str) -> None:
    x = grids()[:5]
    batch = Batch.of(victim(), x, answers(x), torch.arange(5), 0)
    case = Case(Sly(change), WhiteBox(ATan()), margin)  # type: ignore[arg-type]
    with pytest.raises(SpikeproofError, match=told):
        attack_rows(victim(), batch, evaluation="e", threats={"k": threat}, cases={"sly": case})


def test_a_ball_around_frames_is_called_relaxed_and_images_have_no_events() -> None:
    x = grids()[:8]
    found = spikeproof.evaluate(victim(), x, answers(x), tier="smoke", eps=0.05)
    assert {row["surface"] for row in found.rows if row["kind"] == "attack"} == {"relaxed"}
    with pytest.raises(SpikeproofError, match=r"0 or 1, for the surface 'events', got 0\.3.*binary"):
        spikeproof.evaluate(victim(), 0.3 * x, answers(x), tier="smoke", eps=2, norm="flips")
    with pytest.raises(UsageError, match="whole number of events for flips"):
        spikeproof.evaluate(victim(), x, answers(x), tier="smoke", norm="flips")
    image = Victim(replace_channels(), Direct(), T).eval()
    with pytest.raises(SpikeproofError, match="for polarity"):
        spikeproof.evaluate(image, x[:, 0, :1], torch.zeros(8, dtype=torch.int64), tier="smoke", eps=2, norm="polarity")


def replace_channels() -> nn.Module:
    body = Weighed()
    body.in_channels = 1
    return body


def test_the_time_axis_in_the_wrong_place_is_refused_with_the_mend() -> None:
    x = grids()[:8]
    with pytest.raises(SpikeproofError, match=r"\(B,T,2,H,W\).*then TCHW"):
        spikeproof.evaluate(victim(), x.transpose(1, 2), answers(x), tier="smoke", eps=2, norm="flips")
    longer = torch.cat([x, x], 1)
    with pytest.raises(SpikeproofError, match=r"\(B,3,C,H,W\), a frame for each step, got shape \(8, 6,.*steps: 6"):
        spikeproof.evaluate(victim(), longer, answers(x), tier="smoke", eps=2, norm="flips")


def test_counts_are_attacked_by_whole_events() -> None:
    images = from_frames((3 * grids()).round(), answers(grids()).tolist(), binary=False)
    x, y, ids = images.at(torch.arange(N))
    found = spikeproof.evaluate(victim(255.0), x, y, ids=ids, tier="smoke", eps=2, norm="counts")
    rows = [row for row in found.rows if row["kind"] == "attack"]
    assert {row["surface"] for row in rows} == {"counts"}
    assert max(row["distance"] for row in rows) <= 2


@pytest.mark.parametrize("survivors", [False, True])
@pytest.mark.parametrize("name", [name for name in parts.names("attacks") if moves_events(name)])
def test_forwards_and_backwards_are_counted(name: str, survivors: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Image by image against what went through the network: beside the attack a probe, which asks a gradient too, and
    the verdict. This network has no frozen twin."""
    passes: list[tuple[int, bool]] = []
    logits = Scene.logits

    def counted(scene: Scene, point: Tensor, rule: Any, keys: Tensor) -> Tensor:
        passes.append((len(point), point.requires_grad))
        return logits(scene, point, rule, keys)

    monkeypatch.setattr(Scene, "logits", counted)
    accepts = inspect.signature(parts.find("attacks", name)).parameters
    short = {k: v for k, v in {"steps": 6, "queries": 9, "draws": 5}.items() if k in accepts}
    case = Case(parts.build("attacks", {"name": name, **short}), WhiteBox(ATan()), margin, survivors=survivors)
    x, of = grids(), victim()
    batch = Batch.of(of, x, answers(x), torch.arange(len(x)), 0)
    threat = RetimeB0(1) if retimes(name) else Flips(1)
    rows = attack_rows(of, batch, evaluation="e", threats={"1": threat}, cases={name: case})
    assert sum(row["forwards"] + 2 for row in rows) == sum(images for images, _ in passes)
    assert sum(row["backwards"] + 1 for row in rows) == sum(images for images, backward in passes if backward)
