"""What a point would score: closed forms, a memory that forgets, and the same for an image in any company."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikeproof.attacks._forecast import Forecast
from spikeproof.tensors import image_keys, normal


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return normal(image_keys(seed, torch.arange(shape[0])), shape[1:])


def forecast(x: Tensor, score: Tensor, memory: int = 99) -> Forecast:
    it = Forecast(memory)
    it.learn(x, score)
    return it


def test_of_two_points_in_closed_form() -> None:
    """At 0 and at d, scores of -1 and 1: the matrix is (1 + r, k; k, 1 + r), so the weights are -+ 1 / (1 + r - k)."""
    x = torch.tensor([[[0.0, 0.0], [3.0, 4.0]]])
    at = torch.tensor([[[0.0, 0.0], [3.0, 4.0], [1.5, 2.0], [30.0, 40.0]]])
    scale = 2 * 3.0 * 25 / 2
    k = math.exp(-25 / scale)
    near, far = ((1 - k) / (1.03 - k), (math.exp(-(45**2) / scale) - math.exp(-(50**2) / scale)) / (1.03 - k))
    found = forecast(x, torch.tensor([[2.0, 8.0]])).of(at)
    torch.testing.assert_close(found, torch.tensor([[-near, near, 0.0, far]]).double(), rtol=0, atol=1e-6)


def test_an_affine_score_is_told_in_its_order() -> None:
    """Of 40 points that it has not seen; by how much is another matter."""
    w, x, new = drawn(8, 6), drawn(8, 60, 6, seed=1), drawn(8, 40, 6, seed=2)
    found = forecast(x, (x * w[:, None]).sum(2)).of(new)
    true = (new * w[:, None]).sum(2).double()
    for one, other in zip(found, true, strict=True):
        assert torch.corrcoef(torch.stack([one, other]))[0, 1] > 0.97


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8), memory=st.integers(1, 12), seed=st.integers(0, 2**31))
def test_what_is_forgotten_does_not_matter(sizes: list[int], memory: int, seed: int) -> None:
    """Learned in any pieces, it is as if the last points alone had been."""
    x, score, new = drawn(3, sum(sizes), 2, 2, seed=seed), drawn(3, sum(sizes), seed=seed + 1), drawn(3, 5, 2, 2)
    bit_by_bit = Forecast(memory)
    for one, of in zip(x.split(sizes, 1), score.split(sizes, 1), strict=True):
        bit_by_bit.learn(one, of)
    at_once = forecast(x[:, -memory:], score[:, -memory:], memory)
    torch.testing.assert_close(bit_by_bit.of(new), at_once.of(new), rtol=1e-6, atol=1e-8)


def test_company_does_not_matter() -> None:
    x, score, new = drawn(9, 50, 12), drawn(9, 50, seed=1), drawn(9, 20, 12, seed=2)
    whole = forecast(x, score).of(new)
    for some in torch.arange(9).split(4):
        torch.testing.assert_close(forecast(x[some], score[some]).of(new[some]), whole[some], rtol=1e-9, atol=1e-11)
    it, which = forecast(x, score), torch.arange(9) % 3 == 1
    it.keep(which)
    torch.testing.assert_close(it.of(new[which]), whole[which], rtol=1e-9, atol=1e-11)


def test_a_shift_or_a_stretch_of_scores_and_points_does_not_matter() -> None:
    x, score, new = drawn(4, 30, 5), drawn(4, 30, seed=1), drawn(4, 20, 5, seed=2)
    other = forecast(100 * x + 3, 7 * score - 2).of(100 * new + 3)
    torch.testing.assert_close(other, forecast(x, score).of(new), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("memory", [1, 7])
def test_where_nothing_can_be_told_all_points_are_worth_the_same(memory: int) -> None:
    """One point, points of one score, and the same point again and again."""
    x, new = drawn(2, 5, 3), drawn(2, 4, 3, seed=1)
    assert forecast(x, torch.full((2, 5), 3.0), memory).of(new).tolist() == [[0.0] * 4] * 2
    assert forecast(x[:, :1], torch.ones(2, 1), memory).of(new).tolist() == [[0.0] * 4] * 2
    same = forecast(x[:, :1].expand(-1, 5, -1), drawn(2, 5, seed=2), memory).of(new)
    assert same.isfinite().all()
    torch.testing.assert_close(same, torch.zeros(2, 4).double(), rtol=0, atol=1e-9)


def test_points_that_differ_by_rounding_alone_are_one() -> None:
    """Their square distances are below 0 by rounding here and there; of points this alike that would be much."""
    x = (1e4 * drawn(3, 1, 40)).expand(-1, 9, -1)
    found = forecast(x, drawn(3, 9, seed=1)).of(x[:, :4])
    assert found.isfinite().all()
    assert found.abs().max() < 3
