"""3x3 convolutions by tiles: torch's in double precision, forward and through every gradient."""

from __future__ import annotations

import copy
import pickle
from itertools import product
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from spikeproof import native
from spikeproof.layers.conv import Conv2d
from spikeproof.layers.folded import FoldedConv
from spikeproof.layers.kept import Kept
from spikeproof.layers.winograd import by_tiles, fits_tiles, learned_by_tiles, taps_alone
from spikeproof.native.winograd import Points, convolved, kernels, weight_gradient

pytestmark = pytest.mark.skipif(not native.available(), reason="no C compiler here, or SPIKEPROOF_FAST=0")

OFF: dict[Points, float] = {3: 2e-6, 4: 2e-6, 6: 5e-5}
"""How far from the sum of a result's products, each without its sign, it may lie: float32 has 6e-8 of each product."""

channels = st.sampled_from([32, 64, 96])


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def largest(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """What rounding is a share of."""
    return F.conv2d(x.abs(), weight.abs(), None if bias is None else bias.abs(), 1, 1)


def turned(weight: Tensor) -> Tensor:
    """That of the convolution which takes the gradient of the results to that of the maps, by hand."""
    found = torch.empty(weight.shape[1], weight.shape[0], 3, 3)
    for i, j in product(range(3), range(3)):
        found[:, :, i, j] = weight[:, :, 2 - i, 2 - j].T
    return found


@settings(max_examples=40, deadline=None)
@given(
    images=st.integers(1, 60), before=channels, behind=channels, size=st.tuples(st.integers(1, 11), st.integers(1, 11)),
    points=st.sampled_from([4, 6]), last=st.booleans(), bias=st.booleans(), back=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_every_form_is_the_convolution(
    images: int, before: int, behind: int, size: tuple[int, int], points: Points, last: bool, bias: bool, back: bool,
    seed: int,
) -> None:  # fmt: skip
    layout = torch.channels_last if last else torch.contiguous_format
    weight = drawn(behind, before, 3, 3, seed=seed).contiguous(memory_format=layout)
    x = drawn(images, behind if back else before, *size, seed=seed + 1).contiguous(memory_format=layout)
    shift = drawn(before if back else behind, seed=seed + 2) if bias else None
    taps = turned(weight) if back else weight
    found = convolved(x, kernels(weight, points, back=back), shift)
    assert found.is_contiguous(memory_format=torch.channels_last)
    expected = F.conv2d(x.double(), taps.double(), None if shift is None else shift.double(), 1, 1)
    assert bool(((found - expected).abs() <= OFF[points] * largest(x, taps, shift)).all())


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("images", [1, 11, 12, 13, 49, 160])
def test_maps_of_four_pixels_have_a_form_of_their_own(images: int, back: bool) -> None:
    weight, x = drawn(32, 64, 3, 3), drawn(images, 32 if back else 64, 2, 2, seed=1)
    taps = turned(weight) if back else weight
    found = convolved(x, kernels(weight, 3, back=back), None)
    expected = F.conv2d(x.double(), taps.double(), None, 1, 1)
    assert bool(((found - expected).abs() <= OFF[3] * largest(x, taps)).all())


@pytest.mark.parametrize("points", [4, 6])
def test_spikes_through_whole_weights_are_exact(points: Points) -> None:
    """Small whole numbers have no rounding at 4 points; at 6 they are divided by 24, and are not exact."""
    x, weight = (drawn(5, 32, 6, 7) > 0).float(), (4 * drawn(32, 32, 3, 3, seed=1)).round()
    found, expected = convolved(x, kernels(weight, points, back=False), None), F.conv2d(x, weight, None, 1, 1)
    assert torch.equal(found, expected) == (points == 4)


@pytest.mark.parametrize(("size", "points"), [((2, 2), 3), ((5, 6), 4), ((5, 6), 6), ((2, 9), 4)])
def test_neither_company_nor_threads_change_a_bit(size: tuple[int, int], points: Points) -> None:
    """Nor what lies around the maps in memory, which is not read."""
    whole = torch.full((162, 64, *size), torch.nan).contiguous(memory_format=torch.channels_last)
    x = whole[1:-1].copy_(drawn(160, 64, *size))
    table, before = kernels(drawn(32, 64, 3, 3, seed=1), points, back=False), torch.get_num_threads()
    together = convolved(x, table, None)
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert torch.equal(convolved(x, table, None), together)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(convolved(x[i : i + 1], table, None)[0], together[i]) for i in (0, 13, 159))


@pytest.mark.parametrize("size", [(2, 2), (2, 5), (4, 4), (7, 6)])
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_of_every_order(size: tuple[int, int], bias: bool) -> None:
    given = [drawn(3, 32, *size), 0.05 * drawn(64, 32, 3, 3, seed=1), drawn(64, seed=2)]

    def found(convolution: Any, dtype: torch.dtype) -> list[Tensor]:
        x, weight, shift = (each.to(dtype).requires_grad_() for each in given)
        asked = [x, weight, *([shift] if bias else [])]
        out = convolution(x, weight, shift if bias else None).tanh().square().sum()
        first = torch.autograd.grad(out, asked, create_graph=True)
        second = torch.autograd.grad(sum(each.square().sum() for each in first), asked)
        return [each.detach() for each in (*first, *second)]

    expected = found(lambda x, weight, shift: F.conv2d(x, weight, shift, 1, 1), torch.float64)
    for ours, theirs in zip(found(learned_by_tiles, torch.float32), expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=3e-5 * float(theirs.abs().max()))


def test_a_gradient_in_the_maps_alone() -> None:
    x, weight = drawn(9, 32, 8, 8).requires_grad_(), drawn(64, 32, 3, 3, seed=1)
    up = drawn(9, 64, 8, 8, seed=2)
    ours = torch.autograd.grad(by_tiles(x, weight, None, Kept()), x, up)[0]
    theirs = torch.autograd.grad(F.conv2d(x.double(), weight.double(), None, 1, 1), x, up.double())[0]
    assert bool(((ours - theirs).abs() <= OFF[6] * largest(up, turned(weight))).all())


@pytest.mark.parametrize(
    ("images", "channels", "results", "size", "points"),
    [(7, 32, 64, (8, 5), 6), (7, 64, 32, (5, 6), 4), (7, 32, 64, (2, 2), 3), (1, 32, 32, (4, 4), 6),
     (90, 32, 64, (16, 13), 6), (1100, 64, 96, (2, 2), 3)],
)  # fmt: skip
def test_a_weights_gradient_is_summed_over_all_tiles(
    images: int, channels: int, results: int, size: tuple[int, int], points: Points
) -> None:
    """The last two are more than is held at once. Whatever the number of threads, the bits are the same."""
    whole = torch.full((images + 2, channels, *size), torch.nan).contiguous(memory_format=torch.channels_last)
    maps, upstream = whole[1:-1].copy_(drawn(images, channels, *size)), drawn(images, results, *size, seed=1)
    shape = results, channels, 3, 3
    expected = torch.nn.grad.conv2d_weight(maps.double(), shape, upstream.double(), padding=1)
    found, before = weight_gradient(maps, upstream, points), torch.get_num_threads()
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert torch.equal(weight_gradient(maps, upstream, points), found)
    finally:
        torch.set_num_threads(before)
    assert found.is_contiguous()
    assert not weight_gradient(maps[:0], upstream[:0], points).any()


@pytest.mark.parametrize(("size", "points"), [((2, 2), 3), ((5, 6), 4), ((9, 5), 6), ((4, 4), 6)])
def test_what_sees_nothing_is_the_bias_itself(size: tuple[int, int], points: Points) -> None:
    """A share of exact zeros is what spikeproof measures: what is added and taken away again must not fill them."""
    x = drawn(30, 32, *size)
    x *= torch.rand(30, 1, *size, generator=torch.Generator().manual_seed(1)) < 0.1
    weight, bias = drawn(64, 32, 3, 3, seed=1), drawn(64, seed=2)
    seen = F.conv2d((x != 0).any(1, keepdim=True).float(), torch.ones(1, 1, 3, 3), None, 1, 1) > 0
    for shift in (torch.zeros(64), bias):
        found = convolved(x, kernels(weight, points, back=False), shift)
        still = (found == shift[:, None, None]).all(1, keepdim=True)
        assert torch.equal(still, ~seen)
        assert 0 < float(seen.float().mean()) < 1


def test_sparse_gradients_have_the_zeros_of_torch() -> None:
    """Through a pool, which sends most of its gradient nowhere, and a layer before it."""
    torch.manual_seed(0)
    first, second = (Conv2d(32, 32, 3, padding=1, bias=False) for _ in range(2))
    net, x = nn.Sequential(first, nn.ReLU(), second, nn.MaxPool2d(5)), drawn(6, 32, 10, 10).requires_grad_()
    shares = []
    for mode in (True, False):
        out = net.train(mode)(x)
        (gradient,) = torch.autograd.grad(out[:, 3].sum(), x)
        shares.append(gradient == 0)
    assert torch.equal(*shares)
    assert 0.1 < float(shares[0].float().mean()) < 0.9


def test_zeros_of_a_weights_gradient_are_counted_tap_by_tap() -> None:
    layer, x = Conv2d(32, 32, 3, padding=1).train(), torch.zeros(1, 32, 4, 4)
    x[:, :, 0, 0] = 1.0

    def share() -> float:
        (gradient,) = torch.autograd.grad(layer(x).square().sum(), [layer.weight])
        return float((gradient == 0).float().mean())

    with taps_alone():
        assert share() == pytest.approx(5 / 9)
    assert share() < 5 / 9


@pytest.mark.parametrize("points", [4, 6])
def test_a_nan_reaches_what_sees_it(points: Points) -> None:
    """At 6 points others of its tile too, if they see anything."""
    x = drawn(1, 32, 12, 12)
    x[0, 3, 5, 6] = torch.nan
    found = convolved(x, kernels(drawn(32, 32, 3, 3, seed=1), points, back=False), None).isnan()[0]
    expected = torch.zeros(12, 12, dtype=torch.bool)
    expected[4:7, 5:8] = True
    tile = torch.zeros(12, 12, dtype=torch.bool)
    tile[4:8, 4:8] = True
    assert bool((found.any(0) == found.all(0)).all())
    assert (
        torch.equal(found[0], expected) if points == 4 else bool((found[0] >= expected).all() and tile[found[0]].all())
    )


class Met:
    """Which convolutions went by tiles."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        for module, name in (("folded", "by_tiles"), ("conv", "learned_by_tiles")):
            path = f"spikeproof.layers.{module}.{name}"
            monkeypatch.setattr(path, self.seeing(by_tiles if name == "by_tiles" else learned_by_tiles))

    def seeing(self, real: Any) -> Any:
        def called(*given: Any) -> Tensor:
            self.count += 1
            return cast(Tensor, real(*given))

        return called


def layer(**options: Any) -> tuple[Conv2d, nn.BatchNorm2d]:
    torch.manual_seed(0)
    conv = Conv2d(**{"in_channels": 32, "out_channels": 64, "kernel_size": 3, "padding": 1, **options})
    norm = nn.BatchNorm2d(conv.out_channels)
    with torch.no_grad():
        norm(3 * drawn(50, conv.out_channels, 2, 2) + 1)
        norm.weight.uniform_(0.5, 2)
    return conv, norm.eval()


@pytest.mark.parametrize("size", [(2, 2), (4, 4), (9, 5)])
def test_layers_take_this_way(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    """A folded one, and one that is trained; not one that is evaluated."""
    (conv, norm), x, met = layer(), drawn(6, 32, *size), Met(monkeypatch)
    expected = norm.double()(conv.double().eval()(x.double()))
    found = FoldedConv(conv.float(), norm.float())(x)
    assert met.count == 1
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    trained = conv.train()(x)
    assert met.count == 2
    torch.testing.assert_close(trained, conv.eval()(x), rtol=1e-5, atol=1e-5)
    assert met.count == 2


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"stride": 2}, (6, 6)), ({"padding": 0}, (6, 6)), ({"padding": 2}, (6, 6)),
        ({"kernel_size": 5, "padding": 1}, (6, 6)), ({"kernel_size": 1, "padding": 0}, (6, 6)),
        ({"in_channels": 16}, (6, 6)), ({"out_channels": 80}, (6, 6)), ({}, (1, 6)), ({}, (1, 1)),
    ],
)  # fmt: skip
def test_others_go_their_own(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], size: tuple[int, int]) -> None:
    (conv, norm), met = layer(**options), Met(monkeypatch)
    x = drawn(3, conv.in_channels, *size)
    expected = norm(conv.eval()(x))
    torch.testing.assert_close(FoldedConv(conv, norm)(x), expected, rtol=1e-4, atol=1e-5)
    conv.train()(x)
    assert met.count == 0


def test_doubles_nothing_and_what_is_switched_off_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, x = drawn(32, 32, 3, 3), drawn(2, 32, 4, 4)
    assert fits_tiles(x, weight, (1, 1), (1, 1))
    assert not fits_tiles(x.double(), weight.double(), (1, 1), (1, 1))
    assert not fits_tiles(x.half(), weight, (1, 1), (1, 1))
    assert not fits_tiles(x[:0], weight, (1, 1), (1, 1))
    monkeypatch.setenv("SPIKEPROOF_FAST", "0")
    assert not fits_tiles(x, weight, (1, 1), (1, 1))


@pytest.mark.parametrize("channels", [16, 40, 64])
def test_maps_of_other_channels_are_refused_as_by_torch(channels: int) -> None:
    (conv, norm), x = layer(), drawn(2, channels, 4, 4)
    for asked in (conv.train(), FoldedConv(conv, norm)):
        with pytest.raises(RuntimeError, match="channels"):
            asked(x)


def test_maps_without_a_batch_go_their_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    (conv, _), x, met = layer(), drawn(32, 4, 4), Met(monkeypatch)
    torch.testing.assert_close(F.conv2d(x, conv.weight, conv.bias, 1, 1), conv.eval()(x))
    assert not fits_tiles(x, conv.weight, (1, 1), (1, 1))
    assert met.count == 0


def test_autocast_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    (conv, _), x, met = layer(), drawn(2, 32, 4, 4), Met(monkeypatch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert conv.train()(x).dtype == torch.bfloat16
    assert met.count == 0


def test_tiles_follow_their_weight() -> None:
    """When it is written to, loaded or copied; and a copy is no larger than the layer was at first."""
    (conv, norm), x = layer(), drawn(3, 32, 4, 4)
    folded = FoldedConv(conv, norm)
    small = len(pickle.dumps(folded))
    before = folded(x)
    assert len(pickle.dumps(folded)) < small + 100
    for other in (copy.deepcopy(folded), pickle.loads(pickle.dumps(folded))):
        assert torch.equal(other(x), before)
        other.load_state_dict({name: 2 * value for name, value in folded.state_dict().items()})
        torch.testing.assert_close(other(x), 2 * before)
    assert torch.equal(folded(x), before)
    folded.weight = folded.weight.transpose(2, 3)  # of the same memory and version
    expected = F.conv2d(x.double(), folded.weight.double(), folded.bias.double(), 1, 1)
    torch.testing.assert_close(folded(x).double(), expected, rtol=1e-5, atol=1e-5)
    folded.weight = folded.weight.transpose(2, 3)
    with torch.no_grad():
        folded.weight.mul_(2), folded.bias.mul_(2)
    torch.testing.assert_close(folded(x), 2 * before)


@pytest.mark.parametrize("size", [(2, 2), (1, 1), (4, 4)])
def test_weights_that_share_or_skip_memory(size: tuple[int, int]) -> None:
    """Expanded and sliced ones, and gradients that come expanded."""
    x = drawn(2, 32, *size).requires_grad_()
    whole, one = drawn(64, 32, 3, 3, seed=1), drawn(1, 32, 3, 3, seed=2)
    for weight in (whole[::2], one.expand(32, 32, 3, 3), whole.transpose(2, 3)[:32]):
        conv = Conv2d(32, 32, 3, padding=1, bias=False)
        found = []
        for mode in (True, False):
            conv.weight = nn.Parameter(weight)
            found.append(torch.autograd.grad(conv.train(mode)(x).sum(), [x, conv.weight]))
        for ours, theirs in zip(*found, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_layer_of_inference_mode() -> None:
    with torch.inference_mode():
        (conv, norm), x = layer(), drawn(3, 32, 4, 4)
        torch.testing.assert_close(FoldedConv(conv, norm)(x), norm(conv.eval()(x)), rtol=1e-4, atol=1e-5)


def test_a_block_that_memory_does_not_hold_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def spikeproof_winograd(self, *_: object) -> int:
            return 0

        def spikeproof_winograd_weight(self, *_: object) -> int:
            return 0

    table, maps = kernels(drawn(32, 32, 3, 3), 4, back=False), drawn(1, 32, 4, 4)
    monkeypatch.setattr("spikeproof.native.winograd.compiled", Full)
    with pytest.raises(MemoryError, match="no memory"):
        convolved(maps, table, None)
    with pytest.raises(MemoryError, match="no memory"):
        weight_gradient(maps, maps, 6)
