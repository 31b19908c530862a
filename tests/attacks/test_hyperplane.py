"""Shortest ways onto a hyperplane inside the box, against a plain twin and against SciPy's solvers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles.shortest import affine_distance
from scipy.optimize import linprog, minimize
from torch import Tensor

from spikeproof.attacks._hyperplane import dual_norm, onto
from spikeproof.tensors import image_keys, normal, uniform

NORMS = {"Linf": float("inf"), "L2": 2.0, "L1": 1.0}
each_norm = pytest.mark.parametrize("norm", NORMS)
B, D = 40, 7
KEYS = image_keys(0, torch.arange(B))


def planes() -> tuple[Tensor, Tensor, Tensor]:
    """Points, many at the ends of the box, weights, some zero, and how much is to be gained."""
    x = (1.6 * uniform(KEYS, (D,)).double() - 0.3).clamp(0, 1)
    w = normal(image_keys(1, torch.arange(B)), (D,)).double()
    w[uniform(image_keys(2, torch.arange(B)), (D,)) < 0.2] = 0
    return x, w, normal(image_keys(3, torch.arange(B)), ()).double()


def size(d: Tensor, norm: str) -> Tensor:
    return torch.linalg.vector_norm(d, NORMS[norm], dim=1)


@each_norm
def test_the_shortest_way_by_bisection(norm: str) -> None:
    x, w, gain = planes()
    d = onto(x, w, gain, norm)
    assert ((x + d) >= -1e-12).all()
    assert ((x + d) <= 1 + 1e-12).all()
    assert not d[w == 0].any()
    shortest = [affine_distance(x[i].tolist(), w[i].tolist(), -gain[i].item(), norm) for i in range(B)]
    expected = torch.tensor(shortest, dtype=torch.float64)
    reached = expected < float("inf")
    assert 10 < reached.sum() < B
    torch.testing.assert_close((w * d).sum(1)[reached], gain[reached], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(size(d, norm)[reached], expected[reached], rtol=1e-9, atol=1e-9)
    # Where the plane is out of reach, every coordinate goes as far as it can.
    towards = w * gain.sign()[:, None]
    end = torch.where(towards > 0, 1.0, 0.0)
    torch.testing.assert_close((x + d)[~reached], torch.where(towards == 0, x, end)[~reached], rtol=0, atol=1e-12)


@each_norm
def test_no_solver_finds_a_shorter_way(norm: str) -> None:
    x, w, gain = planes()
    for i in range(B):
        p, v, c = x[i].numpy(), w[i].numpy(), gain[i].item()
        found = size(onto(x[i : i + 1], w[i : i + 1], gain[i : i + 1], norm), norm).item()
        up, down = [(0.0, 1 - a) for a in p], [(0.0, a) for a in p]
        if norm == "L2":
            plane = {"type": "eq", "fun": lambda d, v=v, c=c: v @ d - c, "jac": lambda d, v=v: v}
            box = [(-a, 1 - a) for a in p]
            best = minimize(lambda d: d @ d, np.zeros(D), jac=lambda d: 2 * d, bounds=box, constraints=plane)
            shortest = best.fun**0.5
        elif norm == "L1":
            best = linprog(np.ones(2 * D), A_eq=[np.r_[v, -v]], b_eq=[c], bounds=up + down)
            shortest = best.fun
        else:
            sides = np.hstack([np.eye(D), np.eye(D), -np.ones((D, 1))])
            best = linprog(
                np.r_[np.zeros(2 * D), 1], A_ub=sides, b_ub=np.zeros(D), A_eq=[np.r_[v, -v, 0]], b_eq=[c],
                bounds=[*up, *down, (0, None)],
            )  # fmt: skip
            shortest = best.fun
        if best.success:
            assert found == pytest.approx(shortest, abs=1e-5)


@each_norm
@given(st.data())
def test_any_plane_gives_a_finite_way_inside_the_box(norm: str, data: st.DataObject) -> None:
    numbers = st.floats(-4, 4, width=32)
    x = torch.tensor([data.draw(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=5))])
    w = torch.tensor([data.draw(st.lists(numbers, min_size=x.shape[1], max_size=x.shape[1]))])
    gain = torch.tensor([data.draw(numbers)])
    d = onto(x, w, gain, norm)
    assert d.dtype == x.dtype
    assert torch.isfinite(d).all()
    assert (((x + d) >= -1e-6) & ((x + d) <= 1 + 1e-6)).all()
    assert ((w * d).sum().abs() <= gain.abs() * (1 + 1e-5) + 1e-37).all()  # below that float32 has no such digits
    assert not onto(x, torch.zeros_like(w), gain, norm).any()


@each_norm
def test_a_small_gain_is_not_lost_beside_a_large_one(norm: str) -> None:
    """In L1 the first coordinate gets there alone, and the second, which could go on to 1, stays."""
    x, w, gain = torch.tensor([[1e-30, 0.0]]), torch.tensor([[-1.0, 1.0]]), torch.tensor([1e-30])
    torch.testing.assert_close((w * onto(x, w, gain, norm)).sum(1), gain, rtol=1e-6, atol=0)


@each_norm
def test_the_dual_norm_gives_the_distance_without_a_box(norm: str) -> None:
    _, w, gain = planes()
    middle = torch.full_like(w, 0.5)
    small = 0.01 * gain
    torch.testing.assert_close(size(onto(middle, w, small, norm), norm), small.abs() / dual_norm(w, norm))
    scaled = dual_norm((w * 2.0**-110).float(), norm)  # squares of which are 0 in float32
    torch.testing.assert_close(scaled * 2.0**110, dual_norm(w.float(), norm), rtol=1e-6, atol=0)
