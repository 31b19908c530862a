"""Threats of moved events against every grid there is, and every way to say which event went where."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from spikeproof import parts
from spikeproof.errors import UsageError
from spikeproof.spending import spend
from spikeproof.tensors import image_keys
from spikeproof.threats.retime_b0 import RetimeB0
from spikeproof.threats.retime_b1 import RetimeB1
from spikeproof.threats.retime_binf import RetimeBinf
from spikeproof.types import EventThreat, FreeMoves

RETIMES = [RetimeBinf, RetimeB1, RetimeB0]
SHAPES = [(6, 2, 1, 1), (3, 2, 1, 2), (2, 2, 1, 3), (4, 1, 1, 3), (5, 2, 1, 1), (12, 1, 1, 1), (1, 2, 2, 3)]

Array = NDArray[Any]
Line = tuple[int, ...]


@cache
def cheapest(norm: str, old: Line, new: Line) -> float:
    """What it costs at least that the events at the times `old` are at the times `new`: over every way to say which
    went where, by the definition of each budget."""
    if len(old) != len(new):
        return np.inf
    price = {
        "retime_binf": lambda moves: max(moves, default=0),
        "retime_b1": sum,
        "retime_b0": lambda moves: sum(m > 0 for m in moves),
    }[norm]
    ways = itertools.permutations(new)
    return float(min(price([abs(a - b) for a, b in zip(old, way, strict=True)]) for way in ways))


def times(x: Array) -> list[Line]:
    """When the events of each line of a grid (T,*) are."""
    return [tuple(int(t) for t in np.flatnonzero(line)) for line in x.reshape(len(x), -1).T]


def cost(norm: str, x: Array, x0: Array) -> float:
    each = [cheapest(norm, old, new) for old, new in zip(times(x0), times(x), strict=True)]
    return max(each) if norm == "retime_binf" else sum(each)


def admissible(norm: str, x0: Array, k: int) -> Array:
    """Every grid whose lines have as many events as before, within the budget."""
    found = []
    steps = range(len(x0))
    for lines in itertools.product(*(itertools.combinations(steps, len(line)) for line in times(x0))):
        x = np.zeros((len(x0), len(lines)))
        for place, line in enumerate(lines):
            x[list(line), place] = 1
        if cost(norm, x, x0) <= k:
            found.append(x.reshape(x0.shape))
    return np.stack(found)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Any, Array, Array, int]:
    """A threat, a clean grid, a point anywhere, k."""
    shape = draw(st.sampled_from(SHAPES))
    size = int(np.prod(shape))
    x0 = np.array(draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))).reshape(shape)
    if shape[0] == 12:
        x0.reshape(12)[np.flatnonzero(x0)[4:]] = 0  # more events there can be matched in too many ways
    # Tenths, so that ties come up.
    shift = np.array(draw(st.lists(st.integers(-25, 25), min_size=size, max_size=size))).reshape(shape) / 10
    return draw(st.sampled_from(RETIMES)), x0, x0 + shift, draw(st.integers(0, 9))


def tensor(x: Array) -> Tensor:
    return torch.from_numpy(x[None].astype(np.float64))


@settings(max_examples=50, deadline=None)
@given(cases())
def test_the_projection_is_admissible_and_nothing_that_is_lies_nearer(case: tuple[Any, Array, Array, int]) -> None:
    threat, x0, x, k = case
    of = threat(k)
    found = of.project(tensor(x), tensor(x0))[0].numpy()
    assert set(np.unique(found)) <= {0.0, 1.0}
    assert cost(of.norm, found, x0) <= k
    every = admissible(of.norm, x0, k)
    nearest = ((every - x) ** 2).reshape(len(every), -1).sum(1).min()
    assert ((found - x) ** 2).sum() == pytest.approx(nearest, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(cases())
def test_the_best_point_of_a_linear_loss_is_that_of_all_admissible_ones(case: tuple[Any, Array, Array, int]) -> None:
    threat, x0, x, k = case
    of, gradient = threat(k), x - x0
    found = of.best(tensor(gradient), tensor(x0))[0].numpy()
    assert cost(of.norm, found, x0) <= k
    gains = ((admissible(of.norm, x0, k) - x0) * gradient).reshape(-1, x0.size).sum(1)
    assert ((found - x0) * gradient).sum() == pytest.approx(gains.max(), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(cases(), st.integers(0, 2**32))
def test_distances_are_those_of_the_definition_and_samples_keep_to_them(
    case: tuple[Any, Array, Array, int], seed: int
) -> None:
    threat, x0, x, k = case
    of = threat(k)
    anywhere = (x > 0.5).astype(float)
    moved = np.random.default_rng(seed).permuted(x0, axis=0)
    drawn = of.sample(tensor(x0), image_keys(seed, torch.arange(1)))[0].numpy()
    for other in (anywhere, moved, x0, drawn):
        assert float(of.distance(tensor(other), tensor(x0))) == cost(of.norm, other, x0)
    assert cost(of.norm, drawn, x0) <= k


@settings(max_examples=30, deadline=None)
@given(cases())
def test_a_point_inside_stays_and_is_the_best_point_of_its_own_shift(case: tuple[Any, Array, Array, int]) -> None:
    threat, x0, x, k = case
    of, clean = threat(k), tensor(x0)
    inside = of.project(tensor(x), clean)
    assert torch.equal(of.project(inside, clean), inside)
    assert torch.equal(of.best(inside - clean, clean), inside)
    assert torch.equal(of.best(torch.zeros_like(clean), clean), clean)  # what gains nothing is not made


def test_images_of_a_batch_are_each_their_own() -> None:
    """At budgets that are scarce for one image and ample for another."""
    keys, generator = image_keys(3, torch.arange(4)), torch.Generator().manual_seed(0)
    share = torch.linspace(0.02, 0.9, 4).view(4, 1, 1, 1, 1)
    x0 = (torch.rand(4, 8, 2, 4, 4, generator=generator) < share).float()
    x = torch.rand(x0.shape, generator=generator)
    for of in (RetimeBinf(2), RetimeB1(40), RetimeB0(15), RetimeB1(100_000), RetimeB0(100_000)):
        whole, drawn = of.project(x, x0), of.sample(x0, keys)
        assert whole.dtype == x0.dtype
        for i in range(4):
            assert torch.equal(of.project(x[i : i + 1], x0[i : i + 1]), whole[i : i + 1])
            assert torch.equal(of.sample(x0[i : i + 1], keys[i : i + 1]), drawn[i : i + 1])


@pytest.mark.parametrize("threat", RETIMES)
def test_a_sample_spends_what_it_may(threat: Any) -> None:
    x0 = (torch.rand(5, 10, 2, 6, 6, generator=torch.Generator().manual_seed(1)) > 0.8).float()
    for k in (1, 2, 7):
        of = threat(k)
        spent = of.distance(of.sample(x0, image_keys(0, torch.arange(5))), x0)
        assert (spent <= k).all()
        assert (spent == k).all() or (threat is RetimeBinf and spent.min() >= k - 1)  # a move of 7 needs room


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(0, 12))
def test_a_budget_is_shared_out_as_in_the_best_of_all_ways(seed: int, count: int, most: int) -> None:
    """Lines of their own prices, on two images; every way to pay is tried."""
    stream = np.random.default_rng(seed)
    values = np.round(stream.normal(1, 1, (count, 4)), 1)
    values[stream.random((count, 4)) < 0.3] = -np.inf
    values[:, 0] = 0.0
    owner = np.sort(stream.integers(0, 2, count))
    paid = spend(torch.from_numpy(values), torch.from_numpy(owner), 2, most).numpy()
    for image in (0, 1):
        own, spent = values[owner == image], paid[owner == image]
        assert spent.sum() <= most
        ways = [way for way in itertools.product(range(4), repeat=len(own)) if sum(way) <= most]
        top = max(sum(line[c] for line, c in zip(own, way, strict=True)) for way in ways)
        assert own[np.arange(len(own)), spent].sum() == pytest.approx(top, abs=1e-9)


@pytest.mark.parametrize("threat", RETIMES)
def test_what_is_known_of_a_threat(threat: Any) -> None:
    of = threat("3")
    assert of.norm in ("retime_binf", "retime_b1", "retime_b0")
    assert parts.build("threats", {"name": of.norm}, eps=3, surface="events") == of
    assert isinstance(of, EventThreat)
    assert not isinstance(of, FreeMoves)
    assert not of.reaches_all
    assert of.scaled(0.5) == threat(1)


def test_what_does_not_fit_is_refused_with_the_mend() -> None:
    for surface in ("pixels", "encoded", "relaxed", "counts"):
        with pytest.raises(UsageError, match=rf"events for retime_b0, got {surface}; to mend: .*'events'"):
            RetimeB0(3, surface)
    with pytest.raises(UsageError, match=r"whole number of bins for retime_binf.*for example"):
        RetimeBinf(0.5)
    with pytest.raises(UsageError, match=r"\(B,T,2,H,W\).*retime_b1.*\(3, 8\)"):
        RetimeB1(1).project(torch.zeros(3, 8), torch.zeros(3, 8))
