"""Keyed randomness against SplitMix64 in Python integers, and honest statistics; graft and heaviside by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import splitmix

from spikeproof import tensors

COUNT = 100_000
word = st.integers(-(2**63), 2**63 - 1)


def draws(count: int, seed: int = 0) -> torch.Tensor:
    return tensors.image_keys(seed, torch.arange(count))


def test_bits_are_the_published_words_of_splitmix() -> None:
    got = tensors._bits(torch.tensor([1234567]), (3,))
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [value % 2**64 for value in got[0].tolist()] == published


@given(st.lists(word, min_size=1, max_size=4), st.integers(1, 20))
def test_bits_are_splitmix_for_every_key(keys: list[int], count: int) -> None:
    got = tensors._bits(torch.tensor(keys), (count,)).tolist()
    assert got == [[splitmix.signed(value) for value in splitmix.stream(key, count)] for key in keys]


@given(word, st.lists(word, min_size=1, max_size=4))
def test_image_keys_are_two_rounds_of_the_mixer(seed: int, ids: list[int]) -> None:
    expected = [splitmix.signed(splitmix.mix(splitmix.mix(i + splitmix.GOLDEN) + seed)) for i in ids]
    assert tensors.image_keys(seed, torch.tensor(ids)).tolist() == expected


@given(st.lists(word, min_size=1, max_size=4), st.sampled_from([(), (1,), (2, 3), (0, 2), (33,)]), word)
def test_draws_have_the_same_bits_with_and_without_a_library(keys: list[int], shape: tuple[int, ...], to: int) -> None:
    found = []
    for switch in ("1", "0"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SPIKEPROOF_FAST", switch)
            own = tensors.fold(torch.tensor(keys), to)
            draws = (draw(own, shape) for draw in (tensors.uniform, tensors.signs, tensors.normal))
            found.append([own, tensors.integers(own, -3, 3), *draws])
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def test_draws_go_through_functions_of_one_image() -> None:
    """A part of a user's may be mapped over images, where a tensor has no memory of its own."""
    keys = draws(3)
    each = torch.func.vmap(lambda key: tensors.uniform(tensors.fold(key[None], "it"), (2,))[0])(keys)
    assert torch.equal(each, tensors.uniform(tensors.fold(keys, "it"), (2,)))


def test_draws_of_many_images_are_those_of_each_on_any_number_of_threads() -> None:
    keys, before = draws(70), torch.get_num_threads()
    alone = torch.cat([tensors.uniform(key[None], (600,)) for key in keys])
    try:
        torch.set_num_threads(3)
        assert torch.equal(tensors.uniform(keys, (600,)), alone)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(tensors.uniform(keys.repeat_interleave(2)[::2], (600,)), alone)  # words with steps between


def test_keys_of_many_images_and_seeds_are_all_different() -> None:
    keys = torch.cat([draws(20_000, seed) for seed in range(5)])
    assert len(keys.unique()) == 100_000


def test_a_fold_is_another_stream_for_every_word() -> None:
    keys = draws(1000)
    folded = [tensors.fold(keys, word) for word in ("start", "rfgsm", "", 0, 1, 2, -1)]
    assert len(torch.cat([keys, *folded]).unique()) == 8000
    assert torch.equal(tensors.fold(keys, "start"), folded[0])
    one, other = (tensors.signs(k, (100,)).flatten() for k in (keys, folded[0]))
    assert abs((one * other).mean().item()) < 5 / COUNT**0.5


def test_a_draw_depends_on_its_own_key_alone() -> None:
    keys, order = draws(7), torch.tensor([6, 1, 3, 0, 2, 5, 4])
    for draw in (tensors.uniform, tensors.normal, tensors.signs):
        whole = draw(keys, (3, 5))
        assert whole.shape == (7, 3, 5)
        assert torch.equal(draw(keys[order], (3, 5)), whole[order])
        assert torch.equal(draw(keys[2:3], (3, 5)), whole[2:3])
    assert torch.equal(tensors.integers(keys[order], 1, 8), tensors.integers(keys, 1, 8)[order])


def test_draws_leave_the_global_stream_alone() -> None:
    before = torch.get_rng_state()
    tensors.normal(draws(3), (4,))
    assert torch.equal(torch.get_rng_state(), before)


def test_uniform_is_uniform() -> None:
    """Twenty bins, each within five binomial standard deviations; multiples of 2^-24 below 1."""
    u = tensors.uniform(draws(100), (1000,)).flatten()
    assert u.dtype == torch.float32
    assert u.min() >= 0
    assert u.max() < 1
    assert torch.equal(u * 2**24, (u * 2**24).round())
    counts = torch.bincount((u * 20).long(), minlength=20)
    assert (counts - COUNT / 20).abs().max() < 5 * (COUNT * 0.05 * 0.95) ** 0.5


@pytest.mark.parametrize("axis", ["images", "positions"])
def test_neighbours_are_not_correlated(axis: str) -> None:
    u = tensors.uniform(draws(317), (317,)).double() - 0.5
    one, other = (u[1:], u[:-1]) if axis == "images" else (u[:, 1:], u[:, :-1])
    # The product of two independent centred uniforms has standard deviation 1/12.
    assert abs((one * other).mean().item()) < 5 / 12 / one.numel() ** 0.5


def test_signs_are_fair() -> None:
    s = tensors.signs(draws(100), (1000,))
    assert set(s.unique().tolist()) == {-1.0, 1.0}
    assert abs(s.mean().item()) < 5 / COUNT**0.5


@pytest.mark.parametrize(("low", "high"), [(1, 8), (-3, 3), (0, 9), (5, 5)])
def test_integers_take_every_value_equally_often(low: int, high: int) -> None:
    values = tensors.integers(draws(COUNT), low, high)
    assert values.dtype == torch.int64
    options = high - low + 1
    counts = torch.bincount(values - low, minlength=options)
    assert len(counts) == options
    assert (counts - COUNT / options).abs().max() <= 5 * (COUNT / options * (1 - 1 / options)) ** 0.5


def test_normal_is_normal() -> None:
    """Ten bins of equal probability, and the first four moments, each within five standard deviations."""
    z = tensors.normal(draws(100), (1000,)).flatten().double()
    assert torch.isfinite(z).all()
    share = 0.5 * (1 + torch.erf(z / math.sqrt(2)))
    counts = torch.bincount((share * 10).clamp(max=9.99).long(), minlength=10)
    assert (counts - COUNT / 10).abs().max() < 5 * (COUNT * 0.1 * 0.9) ** 0.5
    # The variances of z, z^2, z^3, z^4 are 1, 2, 15, 96; the means 0, 1, 0, 3.
    for power, mean, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs((z**power).mean().item() - mean) < 5 * (variance / COUNT) ** 0.5


def test_graft_has_the_value_of_one_and_the_gradient_of_the_other() -> None:
    x = torch.tensor([0.3, -2.0, 1e20], requires_grad=True)
    value = torch.tensor([1.0, 0.0, 1.0])
    out = tensors.graft(value, 3 * x)
    assert torch.equal(out.detach(), value)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert gradient.tolist() == [3.0, 3.0, 3.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_heaviside_fires_at_zero(dtype: torch.dtype) -> None:
    x = torch.tensor([-1.0, -1e-5, -0.0, 0.0, 1e-5, float("inf"), float("nan")], dtype=dtype)
    out = tensors.heaviside(x)
    assert out.dtype == dtype
    assert out.tolist() == [0, 0, 1, 1, 1, 1, 0]


def test_per_image_broadcasts_along_the_batch() -> None:
    x = torch.ones(2, 3, 4, 5)
    scaled = x * tensors.per_image(x, torch.tensor([2.0, 3.0]))
    assert scaled[0].unique().item() == 2.0
    assert scaled[1].unique().item() == 3.0


def test_a_sparse_sign_takes_each_image_s_own_number_of_entries() -> None:
    x = torch.tensor([[3.0, -2.0, 1.0, 0.0], [-1.0, 1.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0], [1e-30, -2e-30, 0.0, 0.0]])
    found = tensors.sparse_sign(x.view(4, 2, 2), torch.tensor([2, 1, 3, 9])).view(4, 4)
    # Ties with the last are in, zeros are not.
    assert found.tolist() == [[0.5, -0.5, 0, 0], [-0.5, 0.5, 0, 0], [0, 0, 0, 0], [0.5, -0.5, 0, 0]]
    assert tensors.sparse_sign(x, 0)[0].tolist() == [1, 0, 0, 0]
