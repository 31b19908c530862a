"""Every threat: what it projects or samples is inside, and its ascent is the steepest unit step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from spikeproof import parts
from spikeproof.errors import UsageError
from spikeproof.tensors import image_keys, normal, uniform

BALLS = [name for name in parts.names("threats") if parts.find("threats", name).surface == "pixels"]
"""Threats of whole events are no balls; tests/test_event_threats.py examines those."""
each_threat = pytest.mark.parametrize("name", BALLS)
B = 6
KEYS = image_keys(8, torch.arange(B))
X0 = (1.4 * uniform(KEYS, (2, 4, 4)).double() - 0.2).clamp(0, 1)
FAR = X0 + normal(KEYS, (2, 4, 4)).double()


STEEPEST = {"l1": {"share": 0.0}}
"""Options of a threat whose usual step is not the steepest of all."""


def threat(name: str, eps: float | str = 0.15, surface: str = "pixels", **options: Any) -> Any:
    return parts.build("threats", {"name": name, **options}, eps=eps, surface=surface)


def check_inside(ball: Any, x: Tensor, x0: Tensor) -> None:
    assert x.shape == x0.shape
    assert x.min() >= 0
    assert x.max() <= 1
    assert ball.distance(x, x0).max() <= ball.eps + 1e-12


@each_threat
@pytest.mark.parametrize("eps", [0.0, 0.01, 0.15, 2.0])
def test_projection_ends_inside_and_is_idempotent(name: str, eps: float) -> None:
    ball = threat(name, eps)
    x = ball.project(FAR, X0)
    check_inside(ball, x, X0)
    torch.testing.assert_close(ball.project(x, X0), x, rtol=0, atol=1e-15)
    assert torch.equal(ball.project(X0, X0), X0)
    if eps == 0.0:
        assert torch.equal(x, X0)


@each_threat
def test_a_point_inside_stays_where_it_is(name: str) -> None:
    ball = threat(name)
    inside = X0 + 0.4 * (ball.project(FAR, X0) - X0)
    torch.testing.assert_close(ball.project(inside, X0), inside, rtol=0, atol=1e-15)


@each_threat
def test_distance_is_a_norm_of_the_difference_per_image(name: str) -> None:
    ball = threat(name)
    d = ball.distance(FAR, X0)
    assert d.shape == (B,)
    assert not ball.distance(X0, X0).any()
    torch.testing.assert_close(ball.distance(X0 + 3 * (FAR - X0), X0), 3 * d)
    torch.testing.assert_close(ball.distance(X0, FAR), d)
    torch.testing.assert_close(ball.distance(FAR[2:3], X0[2:3]), d[2:3])


@each_threat
def test_ascent_has_length_1_and_beats_every_other_step(name: str) -> None:
    ball, g = threat(name, **STEEPEST.get(name, {})), normal(KEYS, (2, 4, 4)).double()
    step, zero = ball.ascend(g), torch.zeros_like(g)
    torch.testing.assert_close(ball.distance(step, zero), torch.ones(B, dtype=torch.float64))
    torch.testing.assert_close(ball.ascend(1e-9 * g), step)
    gain = (g * step).flatten(1).sum(1)
    alone = g * (g.abs() == g.abs().amax((1, 2, 3), keepdim=True))
    for seed in range(20):
        other = normal(image_keys(seed, torch.arange(B)), (2, 4, 4)).double()
        for way in (other, other.sign(), g + 0.1 * other, alone):
            unit = way / ball.distance(way, zero).view(-1, 1, 1, 1)
            assert ((g * unit).flatten(1).sum(1) <= gain + 1e-12).all()
    assert torch.equal(ball.ascend(zero), zero)


@each_threat
def test_samples_are_inside_keyed_by_image_and_spread(name: str) -> None:
    ball = threat(name)
    x = ball.sample(X0, KEYS)
    check_inside(ball, x, X0)
    assert (ball.distance(x, X0) > 0).all()
    order = torch.tensor([5, 2, 0, 3, 1, 4])
    assert torch.equal(ball.sample(X0[order], KEYS[order]), x[order])
    assert torch.equal(ball.sample(X0[1:2], KEYS[1:2]), x[1:2])
    assert not torch.equal(ball.sample(X0, image_keys(9, torch.arange(B))), x)
    assert torch.equal(threat(name, 0.0).sample(X0, KEYS), X0)


@each_threat
def test_both_surfaces_and_fractions_are_understood(name: str) -> None:
    for surface in ("pixels", "encoded"):
        ball = threat(name, "8/255", surface)
        assert (ball.eps, ball.surface) == (8 / 255, surface)
    assert threat(name).norm


@each_threat
@pytest.mark.parametrize("eps", [-0.1, "x", "8/0", float("nan"), float("inf"), "-1/255"])
def test_a_radius_that_is_none_is_refused(name: str, eps: Any) -> None:
    with pytest.raises(UsageError, match="eps"):
        threat(name, eps)


@each_threat
def test_another_surface_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"encoded, .*pixels"):
        threat(name, 0.1, "membrane")
