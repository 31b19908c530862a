"""Events at other times: what must hold of every attacked recording, checked by code that shares nothing with the
attacks; and on linear read-outs the best that there is."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeproof import parts
from spikeproof.errors import UsageError
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.rules.atan import ATan
from spikeproof.tensors import image_keys
from spikeproof.threats.flips import Flips
from spikeproof.threats.linf import Linf
from spikeproof.threats.retime_b0 import RetimeB0
from spikeproof.threats.retime_b1 import RetimeB1
from spikeproof.threats.retime_binf import RetimeBinf
from spikeproof.types import Rule, Score

ESTIMATOR = WhiteBox(ATan())
ATTACKS: list[dict[str, Any]] = [
    {"name": "retiming", "steps": 5},
    {"name": "top_events", "steps": 4},
    {"name": "swap_search", "queries": 24, "width": 6},
    {"name": "random_swaps", "queries": 24, "width": 6},
    {"name": "random_events", "draws": 4},
]
THREATS = [RetimeBinf(1), RetimeBinf(3), RetimeB1(9), RetimeB0(5)]


class Told:
    """The loss of a grid by weights, bent so that points along the way differ; asked points are noted, by image."""

    classes, final = 2, False

    def __init__(self, weights: Tensor, keys: Tensor, bend: float = 0.0, at: Tensor | None = None) -> None:
        self.weights, self.keys, self.bend = weights, keys, bend
        self.at = torch.arange(len(keys)) if at is None else at
        self.asked: Counter[int] = Counter()

    def __call__(self, x: Tensor, rule: Rule, salt: int) -> Score:
        if not x.requires_grad:
            self.asked.update(self.at.tolist())
        each = (x * self.weights[self.at]).flatten(2)
        loss = each.sum((1, 2)) + self.bend * (each.sum(1) * each.sum(1).roll(1, 1)).sum(1)
        return Score(loss, torch.zeros(len(x), dtype=torch.bool))

    def of(self, index: Tensor) -> Told:
        part = Told(self.weights, self.keys[index], self.bend, self.at[index])
        part.asked = self.asked
        return part


def recordings(count: int, seed: int = 0, shape: tuple[int, ...] = (8, 2, 3, 3)) -> tuple[Tensor, Told]:
    """Grids of few and of many events, and an objective."""
    stream = np.random.default_rng(seed)
    density = stream.random((count, 1, *shape[1:]))
    x0 = torch.from_numpy((stream.random((count, *shape)) < density).astype(np.float32))
    weights = torch.from_numpy(stream.normal(size=(count, *shape)).astype(np.float32))
    return x0, Told(weights, image_keys(seed, torch.arange(count)), bend=0.3)


def run(spec: dict[str, Any], f: Told, x0: Tensor, threat: Any, **more: Any) -> Tensor:
    found: Tensor = parts.build("attacks", spec)(f, x0, threat, ESTIMATOR, f.keys, **more)
    return found


def invariants(new: NDArray[Any], old: NDArray[Any], threat: Any) -> list[str]:
    """What is broken of the five, of one recording (T,2,H,W), by its list of events."""
    before, after = ([tuple(event) for event in np.argwhere(x != 0).tolist()] for x in (old, new))
    broken = []
    if len(after) != len(before):
        broken.append("the number of events")
    if sorted(new[new != 0].tolist()) != sorted(old[old != 0].tolist()):
        broken.append("amplitude")
    if Counter(event[1:] for event in after) != Counter(event[1:] for event in before):
        return [*broken, "event lines"]
    if not set(np.unique(new).tolist()) <= {0.0, 1.0}:
        broken.append("capacity")
    times: dict[tuple[int, ...], tuple[list[int], list[int]]] = {}
    for which, events in enumerate((before, after)):
        for t, *line in events:
            times.setdefault(tuple(line), ([], []))[which].append(t)
    shifts = [abs(a - b) for was, is_ in times.values() for a, b in zip(sorted(was), sorted(is_), strict=True)]
    gone = sum(len(set(was) - set(is_)) for was, is_ in times.values())
    spent = {"retime_binf": max(shifts, default=0), "retime_b1": sum(shifts), "retime_b0": gone}[threat.norm]
    if spent > threat.eps:
        broken.append("the budget")
    return broken


@pytest.mark.parametrize("threat", THREATS, ids=str)
@pytest.mark.parametrize("spec", ATTACKS, ids=lambda spec: str(spec["name"]))
def test_the_five_invariants_hold_of_every_attacked_recording(spec: dict[str, Any], threat: Any) -> None:
    """Three hundred recordings an attack and threat: six thousand."""
    x0, f = recordings(300)
    found = run(spec, f, x0, threat)
    for new, old in zip(found.numpy(), x0.numpy(), strict=True):
        assert invariants(new, old, threat) == []
    assert (found != x0).flatten(1).any(1).float().mean() > 0.9  # and not because nothing was moved
    if "queries" in spec:
        assert max(f.asked.values()) <= spec["queries"]


def test_the_invariants_see_what_is_broken() -> None:
    old = np.zeros((4, 2, 1, 1))
    old[1, 0] = old[1, 1] = 1.0

    def after(**cells: float) -> NDArray[Any]:
        new = old.copy()
        for where, value in cells.items():
            new[int(where[1]), int(where[2])] = value
        return new

    assert invariants(old, old, RetimeB1(0)) == []
    assert invariants(after(c10=0.0), old, RetimeB1(9)) == ["the number of events", "amplitude", "event lines"]
    assert invariants(after(c10=0.0, c21=1.0), old, RetimeB1(9)) == ["event lines"]
    assert invariants(after(c10=2.0), old, RetimeB1(9)) == ["amplitude", "capacity"]
    for threat, fits in ((RetimeBinf(1), False), (RetimeBinf(2), True), (RetimeB1(1), False), (RetimeB1(2), True),
                         (RetimeB0(0), False), (RetimeB0(1), True)):  # fmt: skip
        assert invariants(after(c10=0.0, c30=1.0), old, threat) == ([] if fits else ["the budget"])


@pytest.mark.parametrize("threat", [RetimeBinf(1), RetimeBinf(3), RetimeB1(4), RetimeB0(2)], ids=str)
def test_on_a_linear_read_out_the_search_finds_the_best_grid_there_is(threat: Any) -> None:
    """From the clean grid and from the worst; `best` is held against brute force elsewhere. A line's grids within a
    bound for each event are the bases of a matroid, so that single moves lead to the best of them."""
    x0, f = recordings(4, shape=(5, 2, 2, 1))
    f.bend = 0.0

    def gain(x: Tensor) -> list[float]:
        return ((x - x0) * f.weights).flatten(1).sum(1).tolist()  # type: ignore[no-any-return]

    top = pytest.approx(gain(threat.best(f.weights, x0)), abs=1e-5)
    assert gain(run({"name": "top_events", "steps": 1}, f, x0, threat)) == top
    for start in (None, threat.best(-f.weights, x0)):
        found = run({"name": "swap_search", "queries": 80, "width": 4}, f, x0, threat, start=start)
        assert gain(found) == top


def test_the_soft_choice_finds_the_way_on_a_linear_read_out() -> None:
    """Every event that may move by a bin goes where its weight says, unless it meets another on the way."""
    x0 = torch.zeros(4, 9, 1, 1, 5)
    x0[:, 4] = 1.0
    f = recordings(4, shape=(9, 1, 1, 5))[1]
    f.bend = 0.0
    found = run({"name": "retiming"}, f, x0, RetimeBinf(1))
    assert torch.equal(found, RetimeBinf(1).best(f.weights, x0))
    for threat in (RetimeB1(3), RetimeB0(2)):
        found = run({"name": "retiming", "steps": 40}, f, x0, threat)
        gain, most = (float((f.weights * (x - x0)).sum()) for x in (found, threat.best(f.weights, x0)))
        assert gain > 0.4 * most


def test_an_image_is_attacked_the_same_alone_and_in_any_order() -> None:
    x0, f = recordings(5, shape=(6, 2, 2, 2))
    order = torch.tensor([3, 0, 4, 2, 1])
    for threat in (RetimeBinf(1), RetimeB1(4)):
        for spec in ATTACKS[:4]:
            whole = run(spec, f, x0, threat)
            assert torch.equal(run(spec, f.of(order), x0[order], threat), whole[order])
            assert torch.equal(run(spec, f.of(torch.tensor([4])), x0[4:], threat), whole[4:])


def test_a_start_is_gone_on_from_and_never_lost() -> None:
    x0, f = recordings(5)
    for threat in THREATS[1:3]:
        start = threat.best(f.weights, x0)
        held = f(start, ATan(), 0).loss
        for spec in ATTACKS:
            assert (f(run(spec, f, x0, threat, start=start), ATan(), 0).loss >= held).all()


def test_recordings_without_events_and_full_ones_stay_as_they_are() -> None:
    f = recordings(2)[1]
    x0 = torch.stack([torch.zeros(8, 2, 3, 3), torch.ones(8, 2, 3, 3)])
    for threat in THREATS:
        for spec in ATTACKS:
            assert torch.equal(run(spec, f, x0, threat), x0)


def test_retiming_is_for_threats_that_retime() -> None:
    x0, f = recordings(2)
    for threat in (Flips(2), Linf(0.1)):
        with pytest.raises(UsageError, match=rf"retimed events for retiming, got {threat.norm}.*retime_b1"):
            run({"name": "retiming"}, f, x0, threat)
    with pytest.raises(UsageError, match=r"a ball.*got retime_b0"):
        run({"name": "pgd"}, f, x0, RetimeB0(1))
    with pytest.raises(UsageError, match=r"step > 0"):
        parts.build("attacks", {"name": "retiming", "step": 0.0})
