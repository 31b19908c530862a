"""Threats of whole events, against every grid there is: what is admissible, nearest, and best for a linear loss."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spikeproof import parts
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.tensors import image_keys
from spikeproof.threats.counts import Counts
from spikeproof.threats.delete import Delete
from spikeproof.threats.flips import Flips
from spikeproof.threats.insert import Insert
from spikeproof.threats.l1 import L1
from spikeproof.threats.l2 import L2
from spikeproof.threats.linf import Linf
from spikeproof.threats.polarity import Polarity
from spikeproof.types import EventThreat, Grid

BINARY = [Flips, Insert, Delete, Polarity]
SHAPES = [(1, 2, 1, 1), (1, 2, 2, 3), (2, 2, 1, 3), (3, 2, 1, 2), (1, 2, 1, 4), (2, 2, 1, 1)]  # (T,2,H,W)
SMALL = [shape for shape in SHAPES if np.prod(shape) <= 6]

Array = NDArray[Any]


def moves(name: str, x: Array, x0: Array) -> float:
    """How many moves lead from one grid (T,2,H,W) to another, by the definition; infinite where none do."""
    if name == "flips":
        return float((x != x0).sum())
    if name == "insert":
        return float((x > x0).sum()) if (x >= x0).all() else np.inf
    if name == "delete":
        return float((x < x0).sum()) if (x <= x0).all() else np.inf
    if name == "counts":
        return float((x != x0).sum()) if (abs(x - x0) <= 1).all() and x.min() >= 0 and x.max() <= 255 else np.inf
    turned = 0
    for t, row, column in np.ndindex(x.shape[0], *x.shape[2:]):
        new, old = tuple(x[t, :, row, column]), tuple(x0[t, :, row, column])
        if new != old:
            if new != old[::-1]:
                return np.inf
            turned += 1
    return float(turned)


def every(name: str, x0: Array) -> Iterator[Array]:
    """All grids of the same size, and of counts all that are an event apart at most."""
    for values in itertools.product((-1, 0, 1) if name == "counts" else (0, 1), repeat=x0.size):
        step = np.array(values).reshape(x0.shape)
        yield x0 + step if name == "counts" else step


def admissible(name: str, x0: Array, k: int) -> Array:
    return np.stack([x for x in every(name, x0) if moves(name, x, x0) <= k])


@st.composite
def cases(draw: st.DrawFn) -> tuple[Any, Array, Array, int]:
    """A threat, a clean grid in whole events, a point anywhere (in events), k."""
    threat = draw(st.sampled_from([*BINARY, Counts]))
    shape = draw(st.sampled_from(SMALL if threat is Counts else SHAPES))
    size = int(np.prod(shape))
    value = st.sampled_from([0, 1, 2, 254, 255] if threat is Counts else [0, 1])
    x0 = np.array(draw(st.lists(value, min_size=size, max_size=size))).reshape(shape)
    # Tenths, so that ties come up.
    shift = np.array(draw(st.lists(st.integers(-25, 25), min_size=size, max_size=size))).reshape(shape) / 10
    return threat, x0, x0 + shift, draw(st.integers(0, size + 1))


def tensor(threat: Any, events: Array) -> torch.Tensor:
    return torch.from_numpy(events[None] / (255 if threat is Counts else 1)).double()


def events(threat: Any, x: torch.Tensor) -> Array:
    """Back to whole events; exactly so."""
    most = 255 if threat is Counts else 1
    found = np.round(x[0].numpy() * most)
    assert (found / most == x[0].numpy()).all()
    return found


@settings(max_examples=60, deadline=None)
@given(cases())
def test_the_projection_is_admissible_and_nothing_that_is_lies_nearer(case: tuple[Any, Array, Array, int]) -> None:
    threat, x0, x, k = case
    of = threat(k)
    found = events(threat, of.project(tensor(threat, x), tensor(threat, x0)))
    assert moves(of.norm, found, x0) <= k
    every = admissible(of.norm, x0, k)
    nearest = ((every - x) ** 2).reshape(len(every), -1).sum(1).min()
    assert ((found - x) ** 2).sum() == pytest.approx(nearest, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_the_best_point_of_a_linear_loss_is_that_of_all_admissible_ones(case: tuple[Any, Array, Array, int]) -> None:
    threat, x0, x, k = case
    of, gradient = threat(k), x - x0
    found = events(threat, of.best(torch.from_numpy(gradient[None]), tensor(threat, x0)))
    assert moves(of.norm, found, x0) <= k
    gains = ((admissible(of.norm, x0, k) - x0) * gradient).reshape(-1, x0.size).sum(1)
    assert ((found - x0) * gradient).sum() == pytest.approx(gains.max(), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(cases(), st.integers(0, 2**32))
def test_distances_count_moves_and_samples_make_all_that_they_may(
    case: tuple[Any, Array, Array, int], seed: int
) -> None:
    threat, x0, x, k = case
    of = threat(k)
    far = np.round(x.clip(0, 255 if threat is Counts else 1))
    for other in (far, x0):
        assert float(of.distance(tensor(threat, other), tensor(threat, x0))) == moves(of.norm, other, x0)
    drawn = events(threat, of.sample(tensor(threat, x0), image_keys(seed, torch.arange(1))))
    most = max(moves(of.norm, y, x0) for y in every(of.norm, x0) if np.isfinite(moves(of.norm, y, x0)))
    count = moves(of.norm, drawn, x0)
    assert count == min(k, most) or (threat is Counts and count <= k)  # a cell at its end may draw no way out of it


@settings(max_examples=60, deadline=None)
@given(cases())
def test_a_point_inside_stays_and_is_the_best_point_of_its_own_shift(case: tuple[Any, Array, Array, int]) -> None:
    threat, x0, x, k = case
    of, clean = threat(k), tensor(threat, x0)
    inside = of.project(tensor(threat, x), clean)
    assert torch.equal(of.project(inside, clean), inside)
    assert torch.equal(of.best(inside - clean, clean), inside)


@pytest.mark.parametrize("threat", [*BINARY, Counts])
def test_every_random_set_of_moves_is_as_likely(threat: Any) -> None:
    """One move of six cells or places, 3,000 times: each between a tenth and a quarter, where a sixth is due."""
    x0 = torch.zeros(1, 6, 2, 1, 1) if threat is Insert else torch.ones(1, 6, 2, 1, 1)
    x0 = x0 / 255 if threat is Counts else x0
    x0[:, :, 1] = 0.0 if threat is not Insert else 1.0  # one polarity is free to move in, and one is not
    clean = x0.expand(3000, -1, -1, -1, -1)
    moved = (threat(1).sample(clean, image_keys(0, torch.arange(3000))) != clean).any(2).flatten(1).double()
    assert (moved.sum(1) <= 1).all()
    share = moved.mean(0)
    assert share.min() > 0.1
    assert share.max() < 0.25


def test_images_of_a_batch_are_each_their_own() -> None:
    keys, generator = image_keys(3, torch.arange(7)), torch.Generator().manual_seed(0)
    x0 = (torch.rand(7, 4, 2, 5, 5, generator=generator) > 0.6).float()
    x = torch.rand(x0.shape, generator=generator)
    for threat in BINARY:
        of = threat(9)
        whole, drawn = of.project(x, x0), of.sample(x0, keys)
        for i in range(7):
            assert torch.equal(of.project(x[i : i + 1], x0[i : i + 1]), whole[i : i + 1])
            assert torch.equal(of.sample(x0[i : i + 1], keys[i : i + 1]), drawn[i : i + 1])


def test_a_budget_is_a_whole_number_and_its_share_too() -> None:
    assert Flips(10).scaled(0.25) == Flips(2)
    assert Flips("20").eps == 20
    for wrong in (0.5, "8/255"):
        with pytest.raises(UsageError, match=r"whole number of events for flips.*to mend: for example 20"):
            Flips(wrong)


@pytest.mark.parametrize("threat", [*BINARY, Counts])
def test_what_is_known_of_a_threat(threat: Any) -> None:
    of = threat(3)
    assert isinstance(of, EventThreat)
    assert parts.build("threats", {"name": of.norm}, eps=3, surface=of.surface) == of
    assert of.reaches_all == (threat is Flips)
    surface = parts.surface(of.surface)
    assert isinstance(surface, Grid)
    assert threat(surface.widest(of.norm, 8)).eps == 8


def test_a_threat_that_does_not_fit_its_surface_is_refused_with_the_mend() -> None:
    for surface in ("pixels", "encoded", "relaxed", "counts"):
        with pytest.raises(UsageError, match="set the surface to 'events'"):
            Flips(3, surface)
    with pytest.raises(UsageError, match="set the surface to 'counts'"):
        Counts(3, "events")
    for ball in (Linf, L2, L1):
        for surface in ("events", "counts"):
            with pytest.raises(UsageError, match=r"relaxed.*flips"):
                ball(0.1, surface)
        assert ball(0.1, "relaxed").box == (0.0, 1.0)
    with pytest.raises(UsageError, match=r"two polarities.*\(1, 3, 1, 4, 4\)"):
        Polarity(1).project(torch.zeros(1, 3, 1, 4, 4), torch.zeros(1, 3, 1, 4, 4))


def test_a_surface_takes_whole_events_alone() -> None:
    for surface, value in (("events", 0.5), ("counts", 0.3)):
        grid = torch.zeros(1, 2, 2, 3, 3)
        grid[0, 0, 0, 0, 0] = value
        with pytest.raises(SpikeproofError, match=rf"{surface}.*got {value}.*relaxed"):
            parts.surface(surface).start(None, grid, torch.zeros(1))
    exact = torch.arange(256, dtype=torch.uint8).view(1, 4, 1, 8, 8).float() / 255
    assert torch.equal(parts.surface("counts").start(None, exact, torch.zeros(1)), exact)
