"""The floors of `benchmarks.roofline`, worked out by hand, and that nothing of a pass is lost or counted twice."""

from __future__ import annotations

import pytest
import torch
from benchmarks import roofline
from benchmarks.jobs import job
from benchmarks.roofline import Peak, Spent
from torch import nn
from torch.nn import functional as F

from spikeproof import native
from spikeproof.layers.conv import Conv2d
from spikeproof.layers.folded import FoldedConv
from spikeproof.layers.kept import Kept
from spikeproof.layers.winograd import by_tiles

CONV = (20, 3, 8, 8), (5, 3, 3, 3)


def test_a_floor_is_the_larger_of_arithmetic_and_memory() -> None:
    best = Peak(flops=2e9, bandwidth=1e9)
    assert best.floor_ms(flop=4e6, moved=1e6) == 2.0
    assert best.floor_ms(flop=1e6, moved=3e6) == 3.0


def test_what_a_convolution_of_the_small_network_must_do() -> None:
    """Its blocks are at 4x4: eight images of ten steps, 16 channels to 16 and to 32. Its stem meets each image once."""
    known = roofline.convolutions(job("spikeproof", "input_gradient", "W2", 8, 10))
    flop, moved = known[(80, 16, 4, 4), (16, 16, 3, 3)]
    assert flop == 2 * 80 * 16 * 4 * 4 * 16 * 9
    assert moved == 4 * (2 * 80 * 16 * 4 * 4 + 16 * 16 * 9)
    assert known[(80, 16, 4, 4), (32, 16, 1, 1)][0] == 2 * 80 * 32 * 2 * 2 * 16
    assert (8, 1, 8, 8) in {given for given, *_ in known}


@pytest.mark.skipif(not native.available(), reason="no C compiler here, or SPIKEPROOF_FAST=0")
def test_what_goes_by_tiles_counts_as_the_taps_that_see_a_pixel() -> None:
    """Of 3x3 taps at each of 4x5 pixels 80 lie beside the map: (3 * 4 - 2) * (3 * 5 - 2) see one."""
    x, weight = torch.rand(7, 32, 4, 5).requires_grad_(), torch.rand(64, 32, 3, 3)

    def once() -> None:
        torch.autograd.grad(by_tiles(x, weight, None, Kept()).sum(), x)

    known = roofline.convolutions(once)
    flop, bytes_each = 2 * 7 * 32 * 64 * 130, 4 * 7 * (32 + 64) * 20
    assert known[((7, 32, 4, 5),)] == (flop, bytes_each + 4 * 16 * 32 * 64)
    assert known[((7, 64, 4, 5),)] == (flop, bytes_each + 4 * 36 * 32 * 64)
    found = roofline.by_operation(once, known)
    assert found["by tiles, 32, 3x3, on 4x5"][::2] == found["by tiles, 64, 3x3, on 4x5"][::2] == (1, flop)


@pytest.mark.skipif(not native.available(), reason="no C compiler here, or SPIKEPROOF_FAST=0")
def test_what_goes_by_steps_counts_as_the_taps_that_see_a_pixel() -> None:
    """Of a 3x3 kernel at every second of 8 pixels and of 5, zeros around: 2 and three times 3, and 2, 3 and 2."""
    layer = FoldedConv(Conv2d(32, 64, 3, 2, 1), nn.BatchNorm2d(64).eval())
    x = torch.rand(7, 32, 8, 5).requires_grad_()

    def once() -> None:
        torch.autograd.grad(layer(x).sum(), x)

    known = roofline.convolutions(once)
    flop, moved = 2 * 7 * 32 * 64 * 11 * 7, 4 * (7 * (32 * 40 + 64 * 12) + 9 * 32 * 64)
    assert known[(7, 32, 8, 5), (64, 32, 3, 3)] == known[(7, 64, 4, 3), (64, 32, 3, 3)] == (flop, moved)
    found = roofline.by_operation(once, known)
    for name in ("by steps, 32 to 64, 3x3, from 8x5", "by steps, 64 to 32, 3x3, from 4x3"):
        assert (found[name].calls, *found[name][2:]) == (1, flop, moved)


@pytest.mark.skipif(not native.available(), reason="no C compiler here, or SPIKEPROOF_FAST=0")
def test_the_first_layer_counts_all_taps_of_the_kernel() -> None:
    layer = FoldedConv(Conv2d(3, 32, 7, 2, 3), nn.BatchNorm2d(32).eval())
    x = (torch.rand(5, 3, 16, 16) < 0.5).float().requires_grad_()

    def once() -> None:
        torch.autograd.grad(layer(x).sum(), x)

    known = roofline.convolutions(once)
    flop, moved = 2 * 5 * 32 * 8 * 8 * 3 * 49, 4 * (5 * 32 * 64 + 32 * 3 * 49 + 5 * 3 * 256)
    assert known[(), (5, 32, 8, 8)] == known[(), (), (5, 3, 16, 16)] == (flop, moved)
    found = roofline.by_operation(once, known)
    for name in ("forward by tables, 3, on 16x16", "backward from 32, on 8x8, to few channels"):
        assert (found[name].calls, *found[name][2:]) == (1, flop, moved)


def test_every_operation_of_a_pass_is_counted_once() -> None:
    x, weight = torch.rand(CONV[0]).requires_grad_(), torch.rand(CONV[1])

    def once() -> None:
        torch.autograd.grad(F.conv2d(x, weight, padding=1).relu().sum(), x)

    found = roofline.by_operation(once, {CONV: (6.0, 7.0)})
    name = "3 to 5, 3x3, on 8x8"
    assert {f"forward {name}", f"backward {name}", "everything else"} <= found.keys()
    assert found[f"forward {name}"][2:] == found[f"backward {name}"][2:] == (6.0, 7.0)
    assert [found[f"{way} {name}"].calls for way in ("forward", "backward")] == [1, 1]
    assert all(of.ms >= 0 for of in found.values())


def test_the_table_adds_up() -> None:
    one = {"scan forth": Spent(2, 3.0, 0.0, 2e6), "everything else": Spent(0, 5.0, 0.0, 0.0)}
    lines = roofline.table([one, one, one], Peak(1e9, 1e9)).splitlines()
    assert lines[2] == "| everything else |  | 5.0 | 0.00 | 0.0 | 0.0 |  |"
    assert lines[3] == "| scan forth | 2 | 3.0 | 0.00 | 2.0 | 2.0 | 1.5 |"
    assert lines[4] == "| all | | 8.0 | | | 2.0 | 4.0 |"


def test_products_of_matrices_are_told_by_their_sizes() -> None:
    a, b = torch.rand(6, 4, requires_grad=True), torch.rand(4, 5)
    found = roofline.by_operation(lambda: torch.autograd.grad(F.linear(a, b.T, torch.ones(5)).sum(), a), {})
    assert found["product, 6x4 by 4x5"][2:] == (2 * 6 * 4 * 5, 4 * (24 + 20 + 30))
    assert found["product, 6x5 by 5x4"].calls == 1
