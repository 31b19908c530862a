"""Convolutions by other ways than torch's, against torch's own in float64, with every derivative: kernels of one tap,
taps as rows of a matrix, and the gradient at maps of few channels. Those by tiles: `test_winograd.py`."""

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
