"""Convolutions by other ways than torch's, against torch's own in float64, with every derivative: kernels of one tap,
taps as rows of a matrix, the gradient at maps of few channels, and maps of two values by tables. Those by tiles:
`test_winograd.py`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spikeproof import native
from spikeproof.layers.conv import Conv2d, as_matrix, by_matrix, pointwise
from spikeproof.layers.folded import FoldedConv
from spikeproof.native.few import few_backward
from spikeproof.native.taps import rowable
from spikeproof.native.two_valued import looked_up, tabled, tables

in_c = pytest.mark.skipif(not native.available(), reason="no C compiler here, or SPIKEPROOF_FAST=0")


@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (2, 3)])
def test_a_kernel_of_one_tap_has_every_derivative(stride: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(size, generator=generator, dtype=torch.float64, requires_grad=True)
        for size in ((2, 3, 5, 4), (4, 3, 1, 1), (4,))
    )
    torch.testing.assert_close(pointwise(x, weight, bias, stride), F.conv2d(x, weight, bias, stride))
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(lambda *each: pointwise(*each, stride), (x, weight, bias))
        assert check(lambda each: pointwise(each, weight.detach(), None, stride), (x,))


def test_a_kernel_of_one_tap_under_autocast_alone_and_with_no_image() -> None:
    conv, x = Conv2d(3, 4, 1, 2), torch.randn(2, 3, 5, 4, requires_grad=True)
    with torch.autocast("cpu"):
        out = conv(x)
    found = torch.autograd.grad(out.float().square().sum(), [x, *conv.parameters()])
    expected = torch.autograd.grad(conv.eval()(x).square().sum(), [x, *conv.parameters()])
    assert out.dtype == torch.bfloat16
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.05 * float(theirs.abs().max()))
    conv.train()
    assert conv(x[0]).shape == (4, 3, 2)
    assert conv(x[:0]).shape == (0, 4, 3, 2)


FEW: dict[str, tuple[tuple[Any, ...], tuple[int, int]]] = {
    "the paper's stem": ((3, 64, 7, 2, 3), (32, 32)),
    "digits": ((1, 16, 3, 1, 1), (8, 8)),
    "odd": ((2, 34, (3, 5), (2, 1), (0, 2)), (9, 11)),
    "taps beside the maps": ((3, 5, 7, 1, 3), (6, 5)),
    "pixels that no tap sees": ((3, 33, 2, 3), (14, 13)),
    "as many as the last of few": ((8, 32, 3), (7, 6)),
    "many": ((9, 32, 3), (7, 6)),
    "tiny": ((3, 32, 3), (5, 5)),
}


@pytest.mark.parametrize("case", FEW)
def test_maps_of_few_channels_have_every_derivative(case: str) -> None:
    """What autograd makes of torch's convolution in float64, whatever the threads and the maps beside them; and zeros
    where no result sees anything."""
    (options, size), generator = FEW[case], torch.Generator().manual_seed(0)
    conv, norm = Conv2d(*options), nn.BatchNorm2d(options[1]).eval()
    layer = FoldedConv(conv, norm)
    whole = torch.randn(5, options[0], *size, generator=generator)
    x = whole[1:-1].requires_grad_()
    out = layer(x)
    assert (type(out.grad_fn).__name__ == "_OfFewBackward") == (native.available() and case not in ("many", "tiny"))
    upstream = torch.randn(out.shape, generator=generator)
    upstream[1] = 0.0
    exact = x.detach().double().requires_grad_()
    expected = norm.double()(conv.eval().double()(exact))
    torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-5)
    found, second = [], torch.randn(x.shape, generator=generator)
    for result, at, kind in ((out, x, torch.float32), (expected, exact, torch.float64)):
        up = upstream.to(kind).requires_grad_()
        (first,) = torch.autograd.grad(result, at, up, create_graph=True)
        found.append((first, torch.autograd.grad(first, up, second.to(kind))[0]))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-5 * float(theirs.detach().abs().max()))
    assert not found[0][0][1].any()
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            (again,) = torch.autograd.grad(layer(x), x, upstream)
            assert torch.equal(again, found[0][0])
    finally:
        torch.set_num_threads(before)


@in_c
def test_a_gradient_at_few_channels_that_memory_does_not_hold_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def spikeproof_few_backward(self, *_: object) -> int:
            return 0

    monkeypatch.setattr("spikeproof.native.few.compiled", Full)
    with pytest.raises(MemoryError, match="no memory"):
        few_backward(torch.ones(1, 4, 6, 6), torch.ones(4, 3, 3, 3), (8, 8), (1, 1), (0, 0))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("fast", ["1", "0"])
@pytest.mark.parametrize(
    ("size", "stride", "padding"),
    [((2, 2), (1, 1), (1, 1)), ((2, 2), (2, 2), (1, 1)), ((1, 1), (1, 1), (1, 1)), ((1, 2), (1, 2), (1, 1))],
)
def test_taps_become_rows_and_rows_taps(
    monkeypatch: pytest.MonkeyPatch, layout: torch.memory_format, fast: str,
    size: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int],
) -> None:  # fmt: skip
    """In C and in torch, in every order of derivatives, bit by bit: whole numbers, the sums of which are exact."""
    monkeypatch.setenv("SPIKEPROOF_FAST", fast)
    weight = torch.arange(8 * 4 * 9).view(8, 4, 3, 3).float().contiguous(memory_format=layout).requires_grad_()
    assert rowable(weight) == (fast == "1" and native.available() and layout == torch.contiguous_format)
    matrix = as_matrix(weight, stride, padding, size)
    x = torch.randint(9, (5, 4, *size)).float()
    expected = F.conv2d(x, weight, None, stride, padding)
    assert torch.equal(by_matrix(x, matrix, None, weight, stride, padding), expected)
    upstream = torch.arange(expected.numel()).view_as(expected).float().requires_grad_()
    ours = torch.autograd.grad(by_matrix(x, matrix, None, weight, stride, padding), weight, upstream, create_graph=True)
    theirs = torch.autograd.grad(expected, weight, upstream, create_graph=True)
    assert torch.equal(ours[0], theirs[0])
    assert ours[0].stride() == weight.stride()
    turned = torch.arange(weight.numel()).view_as(weight).float()
    second = [torch.autograd.grad(each, upstream, turned)[0] for each in (*ours, *theirs)]
    assert torch.equal(*second)


TWO_VALUED: dict[str, tuple[tuple[Any, ...], tuple[int, int]]] = {
    "the paper's stem": ((3, 64, 7, 2, 3), (32, 32)),
    "digits": ((1, 16, 3, 1, 1), (8, 8)),
    "odd": ((2, 48, (3, 5), (2, 1), (0, 2)), (9, 11)),
    "pixels that no tap sees": ((3, 32, 2, 3), (14, 13)),
    "a line of 64": ((1, 16, 3), (5, 64)),
    "a kernel of 64 lines": ((8, 16, (8, 2)), (9, 4)),
}


def spikes(count: int, channels: int, size: tuple[int, int]) -> torch.Tensor:
    """Images of two values: the first has zeros alone, the second no zero, and the values are of either sign."""
    generator = torch.Generator().manual_seed(1)
    found = (torch.rand(count, channels, *size, generator=generator) < 0.4).float()
    found[0], found[1] = 0.0, 1.0
    return found * torch.randn(count, 1, 1, 1, generator=generator)


@in_c
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("case", TWO_VALUED)
def test_maps_of_two_values_are_looked_up(case: str, bias: bool) -> None:
    (channels, results, kernel, *rest), size = TWO_VALUED[case]
    conv = nn.Conv2d(channels, results, kernel, *rest, bias=bias).requires_grad_(False)
    steps = conv.stride, conv.padding
    x = spikes(7, channels, size)
    assert tabled(x, conv.weight, *steps)
    out, fit = looked_up(x, tables(conv.weight), conv.weight, conv.bias, *steps)
    assert fit.all()
    assert out.is_contiguous(memory_format=torch.channels_last)
    expected = conv.double()(x.double())
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=2e-6 * float(expected.abs().max()))


@in_c
@pytest.mark.parametrize("other", [0.25, -1.0, float("nan"), float("inf")])
def test_an_image_of_more_values_goes_its_own_way_and_no_other_notices(other: float) -> None:
    conv, norm = Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64).eval()
    layer, x = FoldedConv(conv, norm), spikes(7, 3, (32, 32)).abs()
    together = layer(x)
    x[4] = 0.0
    x[4, 2, 31, 31] = other
    if other != float("inf"):
        x[4, 0, 0, 0] = 1.0
    mixed = layer(x)
    alike = [image for image in range(7) if image != 4]
    assert torch.equal(mixed[alike], together[alike])
    assert torch.equal(layer(x[2:3])[0], together[2])
    with torch.no_grad():
        expected = norm(conv.eval()(x))
    torch.testing.assert_close(mixed, expected, rtol=1e-4, atol=1e-4, equal_nan=True)
    torch.testing.assert_close(layer(x[4:5])[0], mixed[4], rtol=0, atol=1e-5, equal_nan=True)
    asked = x.clone().requires_grad_()
    torch.testing.assert_close(layer(asked).detach(), mixed, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("shape", [(16, 16, 3, 2, 1), (9, 16, 3, 1, 1), (3, 16, 3, 1, 0)], ids=str)
def test_with_a_graph_and_without_the_numbers_are_the_same(shape: tuple[int, ...]) -> None:
    layer = FoldedConv(Conv2d(*shape), nn.BatchNorm2d(16).eval())
    x = (torch.rand(4, shape[0], 5, 5, generator=torch.Generator().manual_seed(3)) < 0.5).float()
    assert torch.equal(layer(x), layer(x.clone().requires_grad_()))


@pytest.mark.parametrize("shape", [(3, 32, 7, 2, 3), (3, 16, 3, 1, 1), (5, 8, 3, 2, 1)], ids=str)
def test_a_folded_layer_follows_its_weight(shape: tuple[int, ...]) -> None:
    """What it has made of it, by depth, as tables and as a matrix; and a gradient of a weight since written to is
    refused."""
    layer = FoldedConv(Conv2d(*shape), nn.BatchNorm2d(shape[1]).eval())
    for size in ((16, 16), (2, 2)):
        x = (torch.rand(2, shape[0], *size) < 0.5).float()
        real = torch.rand(2, shape[0], *size).requires_grad_()
        before = [layer(x) - layer.bias[:, None, None], layer(real) - layer.bias[:, None, None]]
        kept = layer(real)
        layer.weight.mul_(2.0)
        for given, was in zip((x, real), before, strict=True):
            torch.testing.assert_close(layer(given) - layer.bias[:, None, None], 2.0 * was, rtol=1e-4, atol=1e-5)
        if type(kept.grad_fn).__name__ == "_OfFewBackward":
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                kept.sum().backward()


def test_a_kernel_larger_than_its_map_is_refused_as_by_torch() -> None:
    with pytest.raises(RuntimeError, match=r"[Kk]ernel size"):
        Conv2d(3, 4, 3)(torch.ones(2, 3, 2, 2))
    with pytest.raises(RuntimeError, match=r"[Kk]ernel size"):
        FoldedConv(Conv2d(1, 4, 3), nn.BatchNorm2d(4).eval())(torch.ones(2, 1, 2, 2))


@in_c
def test_threads_change_no_bit_of_what_is_looked_up() -> None:
    weight, x, before = torch.randn(32, 3, 5, 5), spikes(40, 3, (20, 20)), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(looked_up(x, tables(weight), weight, None, (1, 1), (2, 2))[0])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@in_c
@pytest.mark.parametrize(
    ("shape", "size"),
    [((16, 1, 3, 3), (5, 66)), ((64, 1, 7, 14), (9, 20)), ((64, 8, 8, 8), (9, 9)), ((16, 9, 8, 2), (9, 9)),
     ((17, 1, 3, 3), (5, 5)), ((16, 1, 6, 6), (5, 5))],
)  # fmt: skip
def test_what_does_not_fit_the_tables_is_not_looked_up(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    """Lines too long, tables too many or too large, results that fill no register, and no result at all."""
    assert not tabled(torch.ones(1, shape[1], *size), torch.ones(shape), (1, 1), (0, 0))


@in_c
def test_bits_that_memory_does_not_hold_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def spikeproof_two_valued(self, *_: object) -> int:
            return 0

    weight = torch.ones(16, 3, 3, 3)
    known = tables(weight)
    monkeypatch.setattr("spikeproof.native.two_valued.compiled", Full)
    with pytest.raises(MemoryError, match="no memory"):
        looked_up(torch.ones(1, 3, 8, 8), known, weight, None, (1, 1), (0, 0))
