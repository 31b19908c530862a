"""Encoders against look-up tables: every grey level, every slope, and nothing that depends on the batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from oracles import encoders as twin
from oracles import splitmix
from torch import Tensor

from spikeproof.encoders.direct import Direct
from spikeproof.encoders.latency import Latency
from spikeproof.encoders.phase import Phase
from spikeproof.encoders.poisson import Poisson
from spikeproof.errors import UsageError
from spikeproof.tensors import image_keys, uniform

ENCODERS = [
    Direct(),
    Phase(),
    Phase(gradient="secant"),
    Phase(gradient="straight"),
    Phase(gradient="weighted"),
    Poisson(),
    Latency(),
]
each_encoder = pytest.mark.parametrize("encoder", ENCODERS, ids=repr)


def keys(count: int, seed: int = 0) -> Tensor:
    return image_keys(seed, torch.arange(count))


def levels(images: int = 1, planes: int = 8) -> Tensor:
    """Every level as one pixel: (images, 2^planes) float64 in [0,1]."""
    top = 2**planes - 1
    return (torch.arange(top + 1, dtype=torch.float64) / top).expand(images, -1).clone()


def pixel_gradient(encoder: Any, x: Tensor, weights: Tensor, image: Tensor) -> Tensor:
    """Gradient at the pixels of sum of weights (T,B,*) times spikes."""
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((encoder(x, len(weights), image) * weights).sum(), x)
    return gradient


def step_slopes(encoder: Any, x: Tensor, steps: int, image: Tensor) -> Tensor:
    """The slope of each step's spike at each pixel, (T,B,*): the gradient of one step at a time."""
    rows = []
    for t in range(steps):
        weights = torch.zeros(steps, *x.shape, dtype=x.dtype)
        weights[t] = 1
        rows.append(pixel_gradient(encoder, x, weights, image))
    return torch.stack(rows)


def matching(slopes: Tensor, tables: Tensor) -> Tensor:
    """Which table (from 1) each image of slopes (T,B,P) equals, all levels and steps at once: (B,)."""
    close = [torch.isclose(slopes, table[:, None], rtol=1e-12, atol=1e-9).all(2).all(0) for table in tables]
    found = torch.stack(close)
    assert (found.sum(0) == 1).all()
    return found.int().argmax(0) + 1


def assert_uniform(draws: Tensor, options: int) -> None:
    """Each option's count within five binomial standard deviations."""
    share = 1 / options
    counts = torch.bincount(draws, minlength=options + 1)[1:]
    assert counts.sum() == len(draws)
    spread = (len(draws) * share * (1 - share)) ** 0.5
    assert (counts - len(draws) * share).abs().max() < 5 * spread


@pytest.mark.parametrize("planes", [1, 2, 5, 8, 10])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_phase_spikes_are_the_bits_of_the_level(planes: int, dtype: torch.dtype) -> None:
    encoder = Phase(planes=planes, reach=1)
    train = encoder(levels(1, planes).to(dtype), 12, keys(1))
    assert train.dtype == dtype
    assert train[:, 0].T.tolist() == [twin.phase_train(v, 12, planes) for v in range(2**planes)]


def test_a_pixel_between_two_levels_counts_as_the_nearest() -> None:
    offsets = torch.tensor([-0.49, -0.2, 0.2, 0.49], dtype=torch.float64)
    x = ((torch.arange(1, 255)[:, None] + offsets) / 255).view(1, -1)
    train = Phase()(x, 8, keys(1))[:, 0].view(8, 254, 4)
    expected = torch.tensor([twin.phase_train(v, 8) for v in range(1, 255)], dtype=torch.float64)
    assert torch.equal(train, expected.T[:, :, None].expand(8, 254, 4))


@pytest.mark.parametrize(
    ("reach", "shares"), [(8, (0.06, 0.19, 0.44, 0.94, 1, 1, 1, 1)), (6, (0.05, 0.14, 0.33, 0.70, 0.98, 1, 1, 1))]
)
def test_share_of_levels_whose_bit_can_be_flipped(reach: int, shares: tuple[float, ...]) -> None:
    table = Phase()(levels(), 8, keys(1))[:, 0]
    movable = [[bool((row[max(0, v - reach) : v + reach + 1] != row[v]).any()) for v in range(256)] for row in table]
    assert [sum(row) / 256 for row in movable] == pytest.approx(shares, abs=0.005)


def test_phase_blend_is_the_mean_of_secant_and_straight() -> None:
    places, image = torch.randn(8, 5, 256, dtype=torch.float64), keys(5)
    secant, straight, blend = (
        pixel_gradient(Phase(gradient=g), levels(5), places, image)  # type: ignore[arg-type]
        for g in ("secant", "straight", "blend")
    )
    torch.testing.assert_close(blend, (secant + straight) / 2, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("planes", [3, 8])
def test_phase_secants_are_those_of_one_step_drawn_per_image(planes: int) -> None:
    reach, images, top = 3 if planes == 3 else 8, 400, 2**planes - 1
    tables = torch.tensor(
        [[[float(c) for c in twin.phase_secants(v, h, planes)] for v in range(top + 1)] for h in range(1, reach + 1)],
        dtype=torch.float64,
    ).transpose(1, 2)  # (h, K, levels)
    encoder = Phase(planes=planes, gradient="secant", reach=reach)
    slopes = step_slopes(encoder, levels(images, planes), planes, keys(images))
    assert_uniform(matching(slopes, tables * (top / (top + 1))), reach)


@pytest.mark.parametrize("gradient", ["straight", "weighted"])
def test_phase_constant_slopes(gradient: Any) -> None:
    slopes = step_slopes(Phase(gradient=gradient), levels(), 8, keys(1))
    expected = [1.0] * 8 if gradient == "straight" else [float(c) for c in twin.weighted_slopes()]
    for got, slope in zip(slopes, expected, strict=True):
        torch.testing.assert_close(got, torch.full_like(got, slope * 255 / 256), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("gradient", "restored"), [("secant", 1.0), ("weighted", 1.0), ("straight", 255 / 256)])
def test_phase_slopes_weighted_by_place_value_restore_the_value(gradient: Any, restored: float) -> None:
    """sum_k 2^-k c_k = 1 for every finite difference: the weighted sum of the bits is the value itself."""
    places = (2.0 ** -torch.arange(1, 9, dtype=torch.float64)).view(8, 1, 1).expand(8, 50, 256)
    got = pixel_gradient(Phase(gradient=gradient), levels(50), places, keys(50))
    torch.testing.assert_close(got, torch.full_like(got, restored * 255 / 256), rtol=1e-12, atol=0)


@pytest.mark.parametrize("gradient", ["secant", "straight", "weighted"])
def test_repeated_planes_add_their_gradients(gradient: Any) -> None:
    encoder, x, image = Phase(gradient=gradient), levels(3), keys(3)
    weights = torch.arange(1.0, 11.0, dtype=torch.float64).view(10, 1, 1).expand(10, 3, 256)
    folded = weights[:8].clone()
    folded[:2] += weights[8:]
    whole, once = pixel_gradient(encoder, x, weights, image), pixel_gradient(encoder, x, folded, image)
    torch.testing.assert_close(whole, once, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("steps", [2, 5, 10])
def test_latency_spikes_once_and_bright_first(steps: int) -> None:
    train = Latency()(levels(), steps, keys(1))[:, 0]
    assert (train.sum(0) == 1).all()
    assert train.argmax(0).tolist() == [twin.latency_time(v, steps) for v in range(256)]


@pytest.mark.parametrize(("reach", "share"), [(1, 0.070), (2, 0.141), (4, 0.281), (6, 0.422), (8, 0.562), (16, 1.0)])
def test_share_of_levels_whose_spike_can_move(reach: int, share: float) -> None:
    times = Latency()(levels(), 10, keys(1))[:, 0].argmax(0)
    movable = [bool((times[max(0, v - reach) : v + reach + 1] != times[v]).any()) for v in range(256)]
    assert sum(movable) / 256 == pytest.approx(share, abs=0.0005)


def test_latency_secants_are_those_of_one_step_drawn_per_image() -> None:
    tables = torch.tensor(
        [[[float(c) for c in twin.latency_slopes(v, h, 10)] for v in range(256)] for h in range(1, 9)],
        dtype=torch.float64,
    ).transpose(1, 2)
    slopes = step_slopes(Latency(), levels(400), 10, keys(400))
    assert_uniform(matching(slopes, tables), 8)


def test_poisson_fires_with_the_brightness_as_probability() -> None:
    draws, steps = 2000, 10
    brightness = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0])
    train = Poisson()(brightness.expand(draws, -1), steps, keys(draws))
    assert set(train.unique().tolist()) == {0.0, 1.0}
    mean = train.mean((0, 1))
    assert mean[0] == 0
    assert mean[-1] == 1
    spread = (brightness * (1 - brightness) / (draws * steps)).sqrt()
    assert ((mean - brightness).abs() <= 5 * spread).all()


def test_poisson_black_stays_silent_at_a_draw_of_exactly_zero() -> None:
    """The mixer maps 0 to 0, so this key's first draw is the one in 2^24 that is 0."""
    key = torch.tensor([splitmix.signed(2**64 - splitmix.GOLDEN)])
    assert uniform(key, (1,)).item() == 0
    assert Poisson()(torch.zeros(1, 1), 1, key).item() == 0


def test_poisson_steps_and_pixels_are_independent() -> None:
    train = Poisson()(torch.full((4000, 2), 0.5), 2, keys(4000)) * 2 - 1
    a, b, c, d = train.permute(0, 2, 1).reshape(4, -1)
    for one, other in [(a, b), (a, c), (a, d), (b, c), (b, d), (c, d)]:
        assert abs((one * other).mean().item()) < 5 / 4000**0.5


@pytest.mark.parametrize("encoder", [Direct(), Poisson()], ids=repr)
def test_identity_gradient_sums_over_time(encoder: Any) -> None:
    weights = torch.arange(24.0, dtype=torch.float64).view(4, 2, 3) - 9
    x = torch.linspace(0, 1, 6, dtype=torch.float64).view(2, 3)
    assert torch.equal(pixel_gradient(encoder, x, weights, keys(2)), weights.sum(0))


def test_direct_repeats_the_image() -> None:
    x = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Direct()(x, 5, keys(2)), torch.stack([x] * 5))


@each_encoder
def test_an_image_is_encoded_the_same_in_any_batch(encoder: Any) -> None:
    x = torch.rand(6, 3, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights = torch.randn(10, 6, 3, 5, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    whole, gradient = encoder(x, 10, keys(6)), pixel_gradient(encoder, x, weights, keys(6))
    assert torch.equal(encoder(x[order], 10, keys(6)[order]), whole[:, order])
    for i in range(6):
        one = slice(i, i + 1)
        assert torch.equal(encoder(x[one], 10, keys(6)[one]), whole[:, one])
        alone = pixel_gradient(encoder, x[one], weights[:, one], keys(6)[one])
        # Not bitwise: torch's sum over time adds in an order that depends on the size of the tensor.
        torch.testing.assert_close(alone, gradient[one], rtol=1e-12, atol=1e-12)


@each_encoder
def test_the_value_depends_on_the_keys_where_the_encoder_says_so(encoder: Any) -> None:
    x = levels(3)
    same = torch.equal(encoder(x, 10, keys(3, seed=0)), encoder(x, 10, keys(3, seed=1)))
    assert encoder.stochastic == (not same)


@each_encoder
def test_the_value_with_a_graph_is_the_value_without(encoder: Any) -> None:
    x = levels(3).float()
    assert torch.equal(encoder(x.clone().requires_grad_(), 10, keys(3)).detach(), encoder(x, 10, keys(3)))


@pytest.mark.parametrize(
    "build",
    [
        lambda: Phase(planes=0),
        lambda: Phase(reach=0),
        lambda: Phase(gradient="round"),  # type: ignore[arg-type]
        lambda: Phase(planes=3, reach=8),
        lambda: Latency(reach=0),
    ],
)
def test_options_out_of_range_are_refused(build: Any) -> None:
    with pytest.raises(UsageError):
        build()
