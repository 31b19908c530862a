"""Attacks that move whole events: on a linear read-out the best there is, and never worse than what they begin with."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikeproof import parts
from spikeproof.errors import UsageError
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.rules.atan import ATan
from spikeproof.tensors import image_keys
from spikeproof.threats.counts import Counts
from spikeproof.threats.delete import Delete
from spikeproof.threats.flips import Flips
from spikeproof.threats.insert import Insert
from spikeproof.threats.linf import Linf
from spikeproof.threats.polarity import Polarity
from spikeproof.types import Rule, Score

ESTIMATOR = WhiteBox(ATan())
SHAPE = (1, 2, 2, 3)  # twelve cells
KEYS = image_keys(0, torch.arange(3))


class Told:
    """The loss of a grid by a function of it; every point that is asked is noted, by image."""

    classes, final = 2, False

    def __init__(self, loss: Any, keys: Tensor = KEYS, at: Tensor | None = None, asked: Any = None) -> None:
        self.loss, self.keys = loss, keys
        self.at = torch.arange(len(keys)) if at is None else at
        self.asked: dict[int, int] = {} if asked is None else asked

    def __call__(self, x: Tensor, rule: Rule, salt: int) -> Score:
        if not x.requires_grad:
            for image in self.at.tolist():
                self.asked[image] = self.asked.get(image, 0) + 1
        loss = self.loss(x, self.at)
        return Score(loss, torch.zeros(len(x), dtype=torch.bool))

    def of(self, index: Tensor) -> Told:
        return Told(self.loss, self.keys[index], self.at[index], self.asked)


def linear(weights: Tensor) -> Told:
    return Told(lambda x, at: (x * weights[at]).flatten(1).sum(1))


def run(spec: dict[str, Any], f: Any, x0: Tensor, threat: Any, **more: Any) -> Tensor:
    found: Tensor = parts.build("attacks", spec)(f, x0, threat, ESTIMATOR, f.keys, **more)
    assert (threat.distance(found, x0) <= threat.eps).all()
    return found


def best_of_all(weights: Tensor, x0: Tensor, threat: Any, k: int) -> list[float]:
    """The largest loss within k moves, over every grid there is."""
    every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=12)), dtype=torch.float64).view(-1, *SHAPE)
    top = []
    for w, clean in zip(weights, x0, strict=True):
        near = every[threat(k).distance(every, clean.expand_as(every)) <= k]
        top.append(float((near * w).flatten(1).sum(1).max()))
    return top


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 5), st.sampled_from([Flips, Insert, Delete, Polarity]))
def test_on_a_linear_read_out_the_best_moves_are_found_exactly(seed: int, k: int, threat: Any) -> None:
    stream = np.random.default_rng(seed)
    x0 = torch.from_numpy(stream.integers(0, 2, (3, *SHAPE))).double()
    weights = torch.from_numpy(stream.normal(size=(3, *SHAPE)))
    expected = pytest.approx(best_of_all(weights, x0, threat, k), abs=1e-9)
    for spec in ({"name": "top_events", "steps": 1}, {"name": "top_events"}, {"name": "swap_search", "queries": 100}):
        found = run(spec, linear(weights), x0, threat(k))
        assert (found * weights).flatten(1).sum(1).tolist() == expected
    # From a bad start, too: exchanged one by one, until nothing gains.
    bad = threat(k).best(-weights, x0)
    found = run({"name": "swap_search", "queries": 200}, linear(weights), x0, threat(k), start=bad)
    assert (found * weights).flatten(1).sum(1).tolist() == expected


def test_counts_go_the_way_of_the_weights_and_stop_at_nothing() -> None:
    x0 = torch.tensor([0.0, 3.0, 255.0, 7.0]).double().view(1, 1, 2, 1, 2).expand(3, -1, -1, -1, -1) / 255
    weights = torch.tensor([-4.0, -3.0, 2.0, 1.0]).double().view(1, 1, 2, 1, 2).expand(3, -1, -1, -1, -1)
    for spec in ({"name": "top_events", "steps": 1}, {"name": "swap_search", "queries": 60}):
        found = run(spec, linear(weights), x0, Counts(2))
        assert (found[0] * 255).round().flatten().tolist() == [0, 2, 255, 8]  # none below 0 or above 255


@pytest.mark.parametrize("name", ["swap_search", "random_swaps"])
def test_a_search_leaves_an_optimum_that_swaps_do_not(name: str) -> None:
    """Of two moves each pair is worth what chance says, and one alone nothing: the way is not told by any gradient."""
    stream = torch.Generator().manual_seed(1)
    table = torch.rand(12, 12, generator=stream).double()

    def loss(x: Tensor, at: Tensor) -> Tensor:
        flat = x.flatten(1)
        pairs = (flat[:, :, None] * flat[:, None] * table.triu(1)).amax((1, 2))
        return torch.where(flat.sum(1) == 2, pairs, 0.0 * flat.sum(1))

    x0 = torch.zeros(3, *SHAPE).double()
    found = run({"name": name, "queries": 300}, Told(loss), x0, Flips(2))
    assert loss(found, torch.arange(3)).tolist() == pytest.approx([float(table.triu(1).max())] * 3)


@pytest.mark.parametrize("name", ["swap_search", "random_swaps"])
@pytest.mark.parametrize("threat", [Flips, Insert, Delete, Polarity])
def test_a_search_asks_no_more_than_it_may_and_ends_where_nothing_can_be_asked(name: str, threat: Any) -> None:
    weights = torch.linspace(-1, 1, 12).double().view(1, *SHAPE).expand(3, *SHAPE)
    x0 = torch.zeros(3, *SHAPE).double()
    x0[0, 0, 0] = 1.0  # of the others nothing can be deleted, and nothing turns
    for queries in (1, 7, 40):
        f = linear(weights)
        run({"name": name, "queries": queries, "width": 5}, f, x0, threat(3))
        assert max(f.asked.values()) <= queries
        assert f.asked[0] == queries or threat is Polarity


def test_random_events_make_as_many_moves_as_they_may_and_keep_the_best() -> None:
    weights = torch.linspace(-1, 1, 12).double().view(1, *SHAPE).expand(3, *SHAPE)
    x0 = torch.zeros(3, *SHAPE).double()
    f = linear(weights)
    found = run({"name": "random_events", "draws": 400}, f, x0, Flips(2))
    assert (found.flatten(1).sum(1) == 2).all()
    assert (found * weights).flatten(1).sum(1).min() > 1.7  # the best two of twelve, 1 and 9/11, are one pair of 66
    assert f.asked == {0: 400, 1: 400, 2: 400}


def test_a_gradient_that_is_zero_moves_nothing_and_filled_with_chance_it_moves() -> None:
    x0 = torch.zeros(3, *SHAPE).double()
    f = Told(lambda x, at: (0.0 * x).flatten(1).sum(1) + (x.detach().flatten(1).sum(1) > 0).double())
    assert torch.equal(run({"name": "top_events"}, f, x0, Flips(2)), x0)
    filled = replace(ESTIMATOR, fill_zeros=True)
    moved = parts.build("attacks", {"name": "top_events"})(f, x0, Flips(2), filled, KEYS)
    assert (Flips(2).distance(moved, x0) > 0).all()


def test_balls_and_events_are_not_confused() -> None:
    x0 = torch.zeros(3, *SHAPE).double()
    for name in ("top_events", "random_events", "swap_search", "random_swaps"):
        with pytest.raises(UsageError, match=r"whole events.*got Linf.*flips, insert"):
            run({"name": name}, linear(x0), x0, Linf(0.1))
    for name in ("pgd", "fgsm", "rfgsm", "mi_fgsm", "random_corners", "block_search", "genetic_search"):
        with pytest.raises(UsageError, match=r"a ball.*got flips.*swap_search"):
            run({"name": name}, linear(x0), x0, Flips(1))
    for name in ("apgd", "fab", "sa_pgd", "square", "code_search"):
        with pytest.raises(UsageError, match="flips"):
            run({"name": name}, linear(x0), x0, Flips(1))
