"""Max pools with another backward: the forward of torch's bit by bit, the shares of the tied by plain loops."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from small import digits, trained, untouched
from torch import Tensor, nn
from torch.nn import functional as F

from spikeproof import parts
from spikeproof.encoders.phase import Phase
from spikeproof.errors import UsageError
from spikeproof.layers.pooling import (
    AveragedMaxPool,
    OneHotAvgPool,
    Pool,
    TieSpreadMaxPool,
    _windows,
    stem_pool,
    with_pooling,
)
from spikeproof.rules.atan import ATan
from spikeproof.tensors import exact, image_keys, normal, uniform
from spikeproof.victims.victim import borrowed

KEYS = image_keys(0, torch.arange(3))
X, Y, IDS = digits(4)
SHAPES: list[dict[str, Any]] = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 1},
    {"kernel_size": (2, 3), "stride": (1, 2), "padding": (1, 0)},
]
MAPS = {
    "real": normal(KEYS, (2, 7, 8)).double() - 1.0,  # mostly negative: a pad of zeros would win
    "spikes": (uniform(KEYS, (2, 7, 8)) < 0.1).double(),
    "silent": torch.zeros(3, 2, 7, 8, dtype=torch.float64),
}
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
each_map = pytest.mark.parametrize("name", MAPS)


def gradient(layer: nn.Module, x: Tensor, upstream: Tensor | None = None) -> Tensor:
    x = x.clone().requires_grad_()
    y = layer(x)
    return torch.autograd.grad(y, x, torch.ones_like(y) if upstream is None else upstream)[0]


def shares(x: Tensor, upstream: Tensor, settings: nn.MaxPool2d) -> Tensor:
    """Each window's gradient in equal parts to its maxima, one window at a time."""
    (kh, kw), (sh, sw), (ph, pw) = (
        (v, v) if isinstance(v, int) else v for v in (settings.kernel_size, settings.stride, settings.padding)
    )
    found = torch.zeros_like(x)
    for n, c, i, j in torch.ones_like(upstream).nonzero().tolist():
        rows = [r for r in range(i * sh - ph, i * sh - ph + kh) if 0 <= r < x.shape[2]]
        columns = [s for s in range(j * sw - pw, j * sw - pw + kw) if 0 <= s < x.shape[3]]
        cells = [(r, s) for r in rows for s in columns]
        top = max(float(x[n, c, r, s]) for r, s in cells)
        tied = [(r, s) for r, s in cells if float(x[n, c, r, s]) == top]
        for r, s in tied:
            found[n, c, r, s] += upstream[n, c, i, j] / len(tied)
    return found


@each_shape
@each_map
@pytest.mark.parametrize("layer", [TieSpreadMaxPool, AveragedMaxPool])
def test_the_forward_is_that_of_torch(shape: dict[str, Any], name: str, layer: Any) -> None:
    replaced = nn.MaxPool2d(**shape)
    for x in (MAPS[name], MAPS[name].float(), MAPS[name].requires_grad_(False).clone().requires_grad_()):
        assert torch.equal(layer(replaced)(x), replaced(x))


@each_shape
@each_map
def test_ties_share_alike(shape: dict[str, Any], name: str) -> None:
    replaced, x = nn.MaxPool2d(**shape), MAPS[name]
    upstream = normal(KEYS, replaced(x).shape[1:]).double()
    found = gradient(TieSpreadMaxPool(replaced), x, upstream)
    torch.testing.assert_close(found, shares(x, upstream, replaced), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.sum(), upstream.sum())
    if name == "real":
        torch.testing.assert_close(found, gradient(replaced, x, upstream), rtol=1e-12, atol=1e-12)


@each_shape
@each_map
def test_ties_share_as_torchs_amax_of_all_windows_has_it_also_in_the_second_derivative(
    shape: dict[str, Any], name: str
) -> None:
    replaced, found = nn.MaxPool2d(**shape), list[tuple[Tensor, Tensor]]()
    for layer in (TieSpreadMaxPool(replaced), lambda x: _windows(x, replaced, outside=-torch.inf).amax((-2, -1))):
        x = MAPS[name].detach().clone().requires_grad_()
        (first,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
        found.append(
            (first.detach(), torch.autograd.grad((first * torch.arange(x[0].numel()).view_as(x[0])).sum(), x)[0])
        )
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@each_shape
@each_map
def test_the_averaged_backward_is_that_of_the_average_pool(shape: dict[str, Any], name: str) -> None:
    replaced, x = nn.MaxPool2d(**shape), MAPS[name]
    upstream = normal(KEYS, replaced(x).shape[1:]).double()
    expected = gradient(nn.AvgPool2d(**shape), x, upstream)
    assert torch.equal(gradient(AveragedMaxPool(replaced), x, upstream), expected)


@pytest.mark.parametrize("layer", [TieSpreadMaxPool, AveragedMaxPool])
def test_time_may_stand_before_the_images(layer: Any) -> None:
    """As in SpikingJelly's multi-step layers, whose place these take."""
    pool, timed = layer(nn.MaxPool2d(3, 2, 1)), torch.stack([MAPS["spikes"], MAPS["real"]])
    upstream = torch.stack([normal(KEYS, (2, 4, 4)).double()] * 2)
    assert torch.equal(pool(timed).flatten(0, 1), pool(timed.flatten(0, 1)))
    found = gradient(pool, timed, upstream).flatten(0, 1)
    assert torch.equal(found, gradient(pool, timed.flatten(0, 1), upstream.flatten(0, 1)))


def test_silence_has_a_quarter_of_the_gradient_in_torch_and_all_of_it_here() -> None:
    replaced, silent = nn.MaxPool2d(2), torch.zeros(2, 3, 8, 8)
    plain, spread = gradient(replaced, silent), gradient(TieSpreadMaxPool(replaced), silent)
    first = torch.zeros(8, 8)
    first[::2, ::2] = 1
    assert torch.equal(plain, first.expand_as(plain))  # always the first cell of its window
    assert torch.equal(spread, torch.full_like(silent, 0.25))


@pytest.mark.parametrize(
    "layer", [nn.MaxPool2d(3, dilation=2), nn.MaxPool2d(2, ceil_mode=True), nn.MaxPool2d(2, return_indices=True)]
)
def test_settings_without_a_twin_are_refused(layer: nn.MaxPool2d) -> None:
    with pytest.raises(UsageError, match="without dilation, ceil_mode and indices"):
        with_pooling(nn.Sequential(layer), "tie_spread")


def test_an_unknown_backward_is_refused() -> None:
    with pytest.raises(UsageError, match=r"the backward of a max pool.*'max'.*valid: tie_spread, avg"):
        trained().attacked_through(pooling="max")


def pixel_gradient(victim: Any, rule: Any) -> Tensor:
    x = X.clone().requires_grad_()
    return torch.autograd.grad(victim(x, rule, image_keys(0, IDS))[:, 0].sum(), x)[0]


@pytest.mark.parametrize("pooling", ["tie_spread", "avg"])
@pytest.mark.parametrize("encoder", ["direct", "phase"])
def test_a_victim_keeps_its_logits_and_its_weights(pooling: str, encoder: str) -> None:
    victim, keys = borrowed(trained(encoder)), image_keys(0, IDS)
    with untouched(victim):
        other = victim.attacked_through(pooling=pooling)
        for name in parts.names("rules"):
            rule = parts.build("rules", {"name": name})
            assert torch.equal(other(X, rule, keys), victim(X, exact, keys))
        plain, found = pixel_gradient(victim, ATan()), pixel_gradient(other, ATan())
    assert not torch.allclose(plain, found)
    assert found.count_nonzero() >= plain.count_nonzero()
    assert not any(m.training for m in other.modules())
    assert not any(type(m) is nn.MaxPool2d for m in other.modules())
    assert any(isinstance(m, nn.MaxPool2d) for m in victim.modules())
    own = {**dict(victim.named_parameters()), **dict(victim.named_buffers())}
    copied = {**dict(other.named_parameters()), **dict(other.named_buffers())}
    assert own.keys() == copied.keys()
    assert all(own[name] is copied[name] for name in own)


def test_pooling_and_encoder_go_together_and_nothing_is_the_same() -> None:
    victim, straight = trained("phase"), Phase(gradient="straight")
    both = victim.attacked_through(straight, "tie_spread")
    assert torch.equal(both(X, exact, IDS), victim(X, exact, IDS))
    found = pixel_gradient(both, ATan())
    for other in (victim, victim.attacked_through(straight), victim.attacked_through(None, "tie_spread")):
        assert not torch.allclose(pixel_gradient(other, ATan()), found)
    assert torch.equal(pixel_gradient(victim.attacked_through(), ATan()), pixel_gradient(victim, ATan()))


def test_a_network_without_a_max_pool_is_the_same() -> None:
    victim = trained(pool="avg")
    other = victim.attacked_through(pooling="tie_spread")
    assert torch.equal(pixel_gradient(other, ATan()), pixel_gradient(victim, ATan()))


# --- a network's own ---

WINDOW = {"kernel_size": 3, "stride": 2, "padding": 1}


def test_every_pool_of_a_network_has_the_values_of_torch_s() -> None:
    for name, x in MAPS.items():
        top, mean = F.max_pool2d(x, 3, 2, 1), F.avg_pool2d(x, 3, 2, 1)
        for pool in get_args(Pool):
            found = stem_pool(pool)(x.clone().requires_grad_())
            assert torch.equal(found, top if pool.startswith("max") else mean), (name, pool)


@pytest.mark.parametrize("pool", ["max_tie_spread", "max_avg_backward"])
def test_the_gradient_of_a_max_pool_s_control_is_the_attacker_s_of_that_name(pool: str) -> None:
    body = nn.Sequential(nn.MaxPool2d(**WINDOW))
    other = with_pooling(body, {"max_tie_spread": "tie_spread", "max_avg_backward": "avg"}[pool])
    assert torch.equal(gradient(stem_pool(pool), MAPS["spikes"]), gradient(other, MAPS["spikes"]))  # type: ignore[arg-type]


def test_a_one_hot_backward_reaches_one_entry_of_each_window() -> None:
    """Window by window: a gradient of ones ends at one entry inside the map, or on the padding, where it is lost."""
    x = MAPS["real"]
    for i in range(4):
        for j in range(4):
            upstream = torch.zeros(3, 2, 4, 4, dtype=torch.float64)
            upstream[:, :, i, j] = 1.0
            found = gradient(OneHotAvgPool(3, 2, 1), x, upstream)
            assert set(found.unique().tolist()) <= {0.0, 1.0}
            for n, c, r, s in found.nonzero().tolist():
                assert found[n, c].sum() == 1
                assert abs(r - 2 * i) <= 1
                assert abs(s - 2 * j) <= 1


def test_the_mean_of_one_hot_gradients_is_that_of_the_average_pool() -> None:
    """Over 3,000 maps; each entry is a mean of draws with a chance of 1/9, of a standard error of 0.0058 at most four
    windows."""
    x = normal(image_keys(1, torch.arange(3000)), (1, 5, 5)).double()
    found = gradient(OneHotAvgPool(3, 2, 1), x).mean(0)
    expected = gradient(nn.AvgPool2d(3, 2, 1), x).mean(0)
    assert (found - expected).abs().max() < 5 * 0.0058 * 2
    chosen = gradient(OneHotAvgPool(3, 2, 1), x)
    assert len(chosen.unique(dim=0)) > 1000  # the draw is the map's own


def test_a_one_hot_gradient_does_not_depend_on_the_batch() -> None:
    x, order = MAPS["spikes"], torch.tensor([2, 0, 1])
    whole = gradient(OneHotAvgPool(3, 2, 1), x)
    assert torch.equal(gradient(OneHotAvgPool(3, 2, 1), x[order]), whole[order])
    assert torch.equal(gradient(OneHotAvgPool(3, 2, 1), x[1:2]), whole[1:2])


def test_an_unknown_pool_is_told_the_valid_ones() -> None:
    with pytest.raises(UsageError, match="max_avg_backward, avg_one_hot"):
        stem_pool("mean")  # type: ignore[arg-type]
