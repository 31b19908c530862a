"""Convolutions that step over pixels, position by position, against torch's own in float64, with every derivative; and
what is written past the caches, which must be what is written into them."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from spikeproof import native
from spikeproof.layers.conv import Conv2d
from spikeproof.layers.few import by_few, few
from spikeproof.layers.folded import FoldedConv
from spikeproof.layers.kept import Kept
from spikeproof.layers.strided import by_steps, fits_steps
from spikeproof.native.pools import Window, pool, pool_backward
from spikeproof.native.strided import matrices, strided, strided_weight

pytestmark = pytest.mark.skipif(not native.available(), reason="no C compiler here, or SPIKEPROOF_FAST=0")


def drawn(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def close(ours: Tensor, theirs: Tensor) -> None:
    limit = 1e-5 * float(theirs.detach().abs().max()) if theirs.numel() else 0.0
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=limit)


CASES: dict[str, tuple[tuple[Any, ...], tuple[int, int]]] = {
    "the paper's second stage": ((64, 128, 3, 2, 1), (8, 8)),
    "its third stage": ((128, 256, 3, 2, 1), (4, 4)),
    "its shortcuts": ((64, 128, 1, 2, 0), (8, 8)),
    "a shortcut of the deepest maps": ((256, 512, 1, 2, 0), (2, 2)),
    "odd": ((32, 64, 3, 2, 1), (7, 5)),
    "uneven": ((32, 32, (3, 5), (2, 3), (0, 2)), (7, 9)),
    "pixels that no tap sees": ((32, 32, 2, 3), (8, 8)),
    "taps beside the maps": ((32, 32, 5, 2, 4), (3, 2)),
    "one axis alone": ((96, 32, 3, (1, 2), 1), (4, 6)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("images", [3, 53])
def test_every_derivative(case: str, images: int) -> None:
    """Of maps, weight and bias, first and second, as autograd has them of torch's convolution in float64."""
    options, size = CASES[case]
    conv = nn.Conv2d(*options)
    steps = conv.stride, conv.padding
    x = drawn(images, options[0], *size)
    assert fits_steps(x, conv.weight, *steps)  # type: ignore[arg-type]
    found = []
    for kind in (torch.float32, torch.float64):
        leaves = [each.detach().to(kind).requires_grad_() for each in (x, conv.weight, conv.bias)]  # type: ignore[union-attr]
        here = kind == torch.float32
        out = by_steps(*leaves, *steps, Kept()) if here else F.conv2d(*leaves, *steps)  # type: ignore[arg-type]
        up = drawn(*out.shape, seed=1).to(kind).requires_grad_()
        first = torch.autograd.grad(out, leaves, up, create_graph=True)
        turned = [drawn(*each.shape, seed=2 + i).to(kind) for i, each in enumerate(first)]
        second = torch.autograd.grad(first, [up, leaves[0], leaves[1]], turned)
        found.append([out, *first, *second])
    for ours, theirs in zip(*found, strict=True):
        close(ours, theirs)
    assert found[0][0].is_contiguous(memory_format=torch.channels_last)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 8), st.integers(1, 8)), st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)), st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.integers(1, 30),
)  # fmt: skip
def test_any_sizes(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], images: int
) -> None:
    x, weight = drawn(images, 32, *size), drawn(64, 32, *kernel, seed=1)
    held = all(size[i] + 2 * padding[i] >= kernel[i] for i in (0, 1))
    assert fits_steps(x, weight, stride, padding) == (held and max(stride) > 1)
    if not fits_steps(x, weight, stride, padding):
        return
    found = []
    for kind in (torch.float32, torch.float64):
        leaves = [each.to(kind).requires_grad_() for each in (x, weight)]
        here = kind == torch.float32
        out = by_steps(*leaves, None, stride, padding, Kept()) if here else F.conv2d(*leaves, None, stride, padding)
        found.append([out, *torch.autograd.grad(out, leaves, drawn(*out.shape, seed=2).to(kind))])
    for ours, theirs in zip(*found, strict=True):
        close(ours, theirs)


def test_an_image_is_alike_whatever_is_beside_it_and_whatever_the_threads() -> None:
    x, weight, before = drawn(60, 64, 8, 8), drawn(128, 64, 3, 3, seed=1), torch.get_num_threads()
    known, back = matrices(weight, back=False), matrices(weight, back=True)
    up = drawn(60, 128, 4, 4, seed=2)
    one = (weight.shape, None, (2, 2), (1, 1))
    whole = strided(x, known, x.shape, *one, back=False), strided(up, back, x.shape, *one, back=True)
    weights = strided_weight(x, up, weight.shape, (2, 2), (1, 1))
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert torch.equal(strided_weight(x, up, weight.shape, (2, 2), (1, 1)), weights)
            for some in (slice(0, 1), slice(7, 20), slice(48, 60)):
                shape = x[some].shape
                assert torch.equal(strided(x[some], known, shape, *one, back=False), whole[0][some])
                assert torch.equal(strided(up[some], back, shape, *one, back=True), whole[1][some])
    finally:
        torch.set_num_threads(before)


def test_zeros_stay_zeros() -> None:
    """Shares of exact zeros are measured: a pixel that no living result sees gets 0, and not what rounding left."""
    weight, up = drawn(64, 32, 3, 3), torch.zeros(2, 64, 4, 4)
    up[0, :, 0, 0] = drawn(64, seed=1)
    found = strided(up, matrices(weight, back=True), (2, 32, 8, 8), weight.shape, None, (2, 2), (1, 1), back=True)
    assert found[0, :, :2, :2].all()
    found[0, :, :2, :2] = 0.0
    assert not found.any()


@pytest.mark.parametrize("options", [(64, 128, 3, 2, 1), (64, 128, 1, 2)], ids=str)
def test_layers_go_this_way_and_follow_their_weight(options: tuple[int, ...]) -> None:
    conv, norm, x = Conv2d(*options), nn.BatchNorm2d(128).eval(), drawn(5, 64, 8, 8)
    out = conv.train()(x)
    assert type(out.grad_fn).__name__ == "_ByStepsBackward"
    torch.testing.assert_close(out, conv.eval()(x), rtol=1e-4, atol=1e-4)
    folded = FoldedConv(conv, norm)
    before = folded(x)
    torch.testing.assert_close(before, norm(conv(x)), rtol=1e-4, atol=1e-4)
    folded.weight.mul_(2.0), folded.bias.mul_(2.0)
    torch.testing.assert_close(folded(x), 2.0 * before)


@pytest.mark.parametrize(
    ("shape", "weight", "stride"),
    [((2, 33, 4, 4), (32, 33, 3, 3), (2, 2)), ((2, 32, 4, 4), (33, 32, 3, 3), (2, 2)),
     ((0, 32, 4, 4), (32, 32, 3, 3), (2, 2)), ((2, 32, 4, 4), (32, 32, 3, 3), (1, 1)),
     ((2, 32, 9, 8), (32, 32, 3, 3), (2, 2)), ((2, 32, 2, 2), (32, 32, 5, 5), (2, 2)),
     ((32, 4, 4), (32, 32, 3, 3), (2, 2)), ((2, 64, 4, 4), (32, 32, 3, 3), (2, 2))],
)  # fmt: skip
def test_what_does_not_fit(shape: tuple[int, ...], weight: tuple[int, ...], stride: tuple[int, int]) -> None:
    """Channels that fill no register, no image, no step, larger maps, a kernel larger than its map, no batch, another
    number of channels."""
    assert not fits_steps(torch.ones(shape), torch.ones(weight), stride, (0, 0))
    fit = torch.ones(2, 32, 4, 4), torch.ones(32, 32, 3, 3)
    assert fits_steps(*fit, (2, 2), (0, 0))
    assert not fits_steps(fit[0].double(), fit[1].double(), (2, 2), (0, 0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not fits_steps(*fit, (2, 2), (0, 0))


def test_a_block_that_memory_does_not_hold_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def spikeproof_strided(self, *_: object) -> int:
            return 0

        spikeproof_strided_weight = spikeproof_strided

    x, weight, up = torch.ones(1, 32, 4, 4), torch.ones(32, 32, 3, 3), torch.ones(1, 32, 2, 2)
    known = matrices(weight, back=False)
    monkeypatch.setattr("spikeproof.native.strided.compiled", Full)
    with pytest.raises(MemoryError, match="no memory"):
        strided(x, known, x.shape, weight.shape, None, (2, 2), (1, 1), back=False)
    with pytest.raises(MemoryError, match="no memory"):
        strided_weight(x, up, weight.shape, (2, 2), (1, 1))


@pytest.mark.parametrize("values", ["two", "more"])
def test_a_first_layer_in_training(values: str) -> None:
    """By tables where its maps have two values, by torch else; with every derivative either way."""
    conv, x = Conv2d(3, 16, 7, 2, 3), drawn(4, 3, 12, 12)
    x = (x > 0).float() if values == "two" else x
    assert (type(conv.train()(x).grad_fn).__name__ == "_OfFewBackward") == (values == "two")
    assert few(x, conv.weight, (2, 2), (3, 3))
    found = []
    for kind in (torch.float32, torch.float64):
        leaves = [each.detach().to(kind).requires_grad_() for each in (x, conv.weight, conv.bias)]  # type: ignore[union-attr]
        here = kind == torch.float32
        out = by_few(*leaves, (2, 2), (3, 3), Kept()) if here else F.conv2d(*leaves, 2, 3)
        up = drawn(*out.shape, seed=1).to(kind).requires_grad_()
        first = torch.autograd.grad(out, leaves, up, create_graph=True)
        turned = [drawn(*each.shape, seed=2 + i).to(kind) for i, each in enumerate(first)]
        found.append([out, *first, *torch.autograd.grad(first, [up, leaves[0], leaves[1]], turned)])
    for ours, theirs in zip(*found, strict=True):
        close(ours, theirs)


@pytest.mark.parametrize(
    ("options", "size"), [((3, 8, 3, 1, 1), 12), ((3, 64, 3, 1, 1), 64), ((3, 64, 3, 2, 1), 65), ((3, 16, 3, 1, 1), 12)]
)
def test_a_first_layer_in_training_is_channels_last_whatever_its_values(options: tuple[int, ...], size: int) -> None:
    """Where tables hold the kernel and where they do not: too few results, or lines too long."""
    conv, x = Conv2d(*options).train(), drawn(2, 3, size, size)
    for each in (x, (x > 0).float(), torch.cat([(x > 0).float(), x])):
        out = conv(each)
        assert out.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(out, F.conv2d(each, conv.weight, conv.bias, *options[3:]), rtol=1e-4, atol=1e-4)


def test_a_second_derivative_under_autocast_is_that_without() -> None:
    conv, x = Conv2d(3, 16, 3, 2, 1).train(), (drawn(2, 3, 9, 9) > 0).float().requires_grad_()
    found = []
    for cast in (False, True):
        (first,) = torch.autograd.grad(conv(x).square().sum(), x, create_graph=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=cast):
            found.append(torch.autograd.grad(first.square().sum(), conv.weight)[0])
    torch.testing.assert_close(*found)


LARGE = 1 << 17
"""Floats from which on results are written past the caches."""


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("neurons", [LARGE // 4, LARGE // 4 + 48, LARGE // 4 + 1])
def test_a_scan_past_the_caches_is_the_scan(neurons: int, hard: bool) -> None:
    """Bit by bit what smaller layers have of the same neurons, whose results stay in the caches."""
    neuron = native.Membrane("add", 1.0, 1.0, 0.0 if hard else None)
    slope = native.Slope("atan", 2.0, True, False, (1.0, 1.0))
    x, up = drawn(4, neurons), drawn(4, neurons, seed=1)
    whole = native.scan(neuron, x)[0], *native.heights(neuron, x)[:2], native.scan_backward(neuron, slope, x, up)
    parts = []
    for some in torch.arange(neurons).split(neurons // 3):
        of_x, of_up = x[:, some].contiguous(), up[:, some].contiguous()
        parts.append(
            (native.scan(neuron, of_x)[0], *native.heights(neuron, of_x)[:2],
             native.scan_backward(neuron, slope, of_x, of_up))
        )  # fmt: skip
    for ours, each in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(ours, torch.cat(each, 1))


def test_memory_that_is_not_aligned_is_written_to() -> None:
    """A result of that size that begins within a line of the cache."""
    neuron, x = native.Membrane("add", 1.0, 1.0, 0.0), drawn(4, LARGE // 4)
    room = torch.zeros(4 * (LARGE // 4) + 1)
    given = ctypes.byref(native._membrane(neuron)), *native._sizes(x), native._pointer(x)
    native.compiled().spikeproof_forward(*given, native._pointer(room[1:]), ctypes.c_void_p(None))
    assert torch.equal(room[1:].view_as(x), native.scan(neuron, x)[0])


def test_maps_past_the_caches_are_the_maps() -> None:
    """Pools back, tiles and tables: an image has the same numbers among many as alone."""
    images = 70
    x = drawn(images, 32, 22, 22).contiguous(memory_format=torch.channels_last)
    assert x.numel() >= LARGE
    up = drawn(images, 32, 11, 11, seed=1).contiguous(memory_format=torch.channels_last)
    tiles, stem = Conv2d(32, 32, 3, padding=1), Conv2d(3, 32, 3, padding=1)
    layers = [FoldedConv(conv, nn.BatchNorm2d(32).eval()) for conv in (tiles, stem)]
    spikes, window = (drawn(images, 3, 22, 22, seed=2) > 0).float(), Window((3, 3), (2, 2), (1, 1))

    def made(some: slice) -> list[Tensor]:
        part = x[some].contiguous(memory_format=torch.channels_last)
        where = pool(part, window, places=True)[1]
        assert where is not None
        back = pool_backward(up[some], where, part.shape, window)
        return [back, layers[0](part), layers[1](spikes[some])]

    for whole, alone in zip(made(slice(None)), made(slice(33, 35)), strict=True):
        assert torch.equal(whole[33:35], alone)
