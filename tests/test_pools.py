"""The max pools in C, held to torch's own bit by bit: values, NaN and infinities, ties, and the gradient's sums."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from spikeproof import native
from spikeproof.layers.max_pool import MaxPool2d, SlimMaxPool2d
from spikeproof.layers.pooling import TieSpreadMaxPool
from spikeproof.native.pools import Window, pool, pool_backward, poolable

pytestmark = pytest.mark.skipif(not native.available(), reason="no C compiler here, or SPIKEPROOF_FAST=0")

VALUES = torch.tensor([0.0, 1.0, -1.0, 0.5, float("inf"), float("-inf"), float("nan")])
"""Few, so that most windows tie."""


def maps(images: int, channels: int, height: int, width: int, seed: int) -> Tensor:
    drawn = torch.randint(len(VALUES), (images, channels, height, width), generator=torch.Generator().manual_seed(seed))
    return VALUES[drawn].contiguous(memory_format=torch.channels_last)


def bits(x: Tensor) -> Tensor:
    return x.contiguous().view(torch.int32)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 4)))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    return Window(kernel, draw(st.tuples(st.integers(1, 4), st.integers(1, 6))), (padding[0], padding[1]))


@settings(max_examples=150, deadline=None)
@given(
    windows(), st.integers(1, 3), st.sampled_from([1, 2, 15, 16, 17, 32, 40]), st.integers(1, 9), st.integers(1, 9),
    st.integers(0, 99),
)  # fmt: skip
def test_any_pool_is_torchs(window: Window, images: int, channels: int, height: int, width: int, seed: int) -> None:
    x = maps(images, channels, height, width, seed)
    rows, columns = window.result(x.shape)
    if min(rows, columns) < 1:
        assert not poolable(x, window)
        return
    assert poolable(x, window)
    point = x.clone(memory_format=torch.preserve_format).requires_grad_()
    expected = F.max_pool2d(point, *window)
    out, where = pool(x, window, places=True)
    assert where is not None
    assert out.shape == expected.shape
    assert torch.equal(bits(out), bits(expected.detach()))
    assert torch.equal(bits(pool(x, window, places=False)[0]), bits(out))
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(seed))
    (gradient,) = torch.autograd.grad(expected, point, upstream)
    found = pool_backward(upstream, where, x.shape, window)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, gradient, rtol=1e-6, atol=1e-6)  # torch may add in another order


def test_the_pool_of_the_networks_sums_in_torchs_order() -> None:
    """Of many threads too."""
    x = (torch.rand(64, 16, 16, 16, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    upstream = torch.randn(64, 16, 8, 8, generator=torch.Generator().manual_seed(1))
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            theirs, ours = F.max_pool2d(x, 3, 2, 1), SlimMaxPool2d(3, 2, 1)(x)
            assert torch.equal(theirs, ours)
            both = [torch.autograd.grad(one, x, upstream)[0] for one in (theirs, ours)]
            assert torch.equal(*both)
    finally:
        torch.set_num_threads(before)


@settings(max_examples=100, deadline=None)
@given(
    windows(), st.integers(1, 3), st.sampled_from([1, 2, 15, 16, 17, 32, 40]), st.integers(1, 9), st.integers(1, 9),
    st.integers(0, 99), st.booleans(),
)  # fmt: skip
def test_a_gradient_that_is_shared_among_the_tied_is_that_of_torch_bit_by_bit(
    window: Window, images: int, channels: int, height: int, width: int, seed: int, timed: bool
) -> None:
    x = maps(images, channels, height, width, seed).nan_to_num(0.25, 2.0, -2.0)
    layer = TieSpreadMaxPool(torch.nn.MaxPool2d(*window))
    if min(window.result(x.shape)) < 1:
        return
    at = (x[None] if timed else x).requires_grad_()
    upstream = torch.randn(layer(at).shape, generator=torch.Generator().manual_seed(seed))
    (in_c,) = torch.autograd.grad(layer(at), at, upstream)
    (in_torch,) = torch.autograd.grad(layer(at), at, upstream, create_graph=True)  # as a second derivative is asked
    assert in_torch.shape == in_c.shape == at.shape
    assert torch.equal(in_c, in_torch)


def test_what_is_not_known_in_c_is_torchs() -> None:
    window, x = Window((3, 3), (2, 2), (1, 1)), maps(2, 4, 8, 8, 0)
    assert poolable(x, window)
    for other in (x.double(), x.contiguous(), x[0], x[:0], x[:, :, ::2]):
        assert not poolable(other, window)
    assert not poolable(x, Window((17, 16), (1, 1), (8, 8)))
    assert not poolable(x, Window((3, 3), (2, 2), (2, 1)))
    torch.testing.assert_close(
        SlimMaxPool2d(2, ceil_mode=True)(x[:, :, :7]), F.max_pool2d(x[:, :, :7], 2, ceil_mode=True), equal_nan=True
    )
    torch.testing.assert_close(MaxPool2d(2, dilation=2)(x), F.max_pool2d(x, 2, dilation=2), equal_nan=True)


def test_the_switch_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    x, window = maps(2, 4, 8, 8, 0), Window((3, 3), (2, 2), (1, 1))
    monkeypatch.setenv("SPIKEPROOF_FAST", "0")
    assert not poolable(x, window)


@settings(max_examples=60, deadline=None)
@given(windows(), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.sampled_from([MaxPool2d, SlimMaxPool2d]))
def test_the_second_derivative_is_torchs(
    window: Window, images: int, height: int, width: int, kind: type[torch.nn.MaxPool2d]
) -> None:
    """And the third; no two numbers of a map are equal, so that no order matters."""
    x = torch.randperm(images * 4 * height * width, generator=torch.Generator().manual_seed(0)).float()
    x = (x / x.numel()).view(images, 4, height, width).contiguous(memory_format=torch.channels_last)
    if min(window.result(x.shape)) < 1:
        return

    def found(layer: torch.nn.Module, at: Tensor) -> list[Tensor]:
        at = at.clone(memory_format=torch.preserve_format).requires_grad_()
        (first,) = torch.autograd.grad(layer(at).pow(4).sum(), at, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), at, create_graph=True)
        (third,) = torch.autograd.grad(second.square().sum(), at)
        return [each.detach().double() for each in (first, second, third)]

    for ours, theirs in zip(found(kind(*window), x), found(torch.nn.MaxPool2d(*window), x.double()), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
