"""Every encoder: an image's code depends on its pixels and its key alone, and a gradient reaches the pixels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from spikeproof import parts
from spikeproof.tensors import image_keys, uniform
from spikeproof.types import Shaped

each_encoder = pytest.mark.parametrize("name", parts.names("encoders"))
B, STEPS = 6, 9


def encoder(name: str) -> Any:
    return parts.build("encoders", {"name": name})


def keys(seed: int = 0) -> Tensor:
    return image_keys(seed, torch.arange(B))


def pixels(name: str, steps: int = STEPS) -> Tensor:
    """What the encoder takes, (B,2,5,5) or `steps` frames of that, with both ends of the range among them."""
    part = encoder(name)
    time = (steps,) if isinstance(part, Shaped) and part.takes == "TCHW" else ()
    x = uniform(keys(9), (*time, 2, 5, 5))
    x[..., 0, 0, 0], x[..., 0, 0, 1] = 0.0, 1.0
    return x


@each_encoder
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_code_is_one_value_in_0_to_1_per_step(name: str, dtype: torch.dtype) -> None:
    for steps in (1, STEPS):
        z = encoder(name)(pixels(name, steps).to(dtype), steps, keys())
        assert z.shape == (steps, B, 2, 5, 5)
        assert z.dtype == dtype
        assert z.min() >= 0
        assert z.max() <= 1


@each_encoder
def test_the_same_key_gives_the_same_code_in_any_batch(name: str) -> None:
    part, x, order = encoder(name), pixels(name), torch.tensor([4, 0, 5, 2, 1, 3])
    whole = part(x, STEPS, keys())
    assert torch.equal(part(x[order], STEPS, keys()[order]), whole[:, order])
    for i in range(B):
        assert torch.equal(part(x[i : i + 1], STEPS, keys()[i : i + 1]), whole[:, i : i + 1])


@each_encoder
def test_it_is_stochastic_exactly_where_the_value_depends_on_the_keys(name: str) -> None:
    part = encoder(name)
    assert part.stochastic == (not torch.equal(part(pixels(name), STEPS, keys(0)), part(pixels(name), STEPS, keys(1))))


@each_encoder
def test_the_code_knows_the_pixels(name: str) -> None:
    x = pixels(name)
    assert not torch.equal(encoder(name)(x, STEPS, keys()), encoder(name)(1 - x, STEPS, keys()))


@each_encoder
def test_a_gradient_reaches_the_pixels_of_every_image(name: str) -> None:
    x = pixels(name).requires_grad_()
    z = encoder(name)(x, STEPS, keys())
    (gradient,) = torch.autograd.grad((z * torch.linspace(1, 2, STEPS).view(-1, 1, 1, 1, 1)).sum(), x)
    assert torch.isfinite(gradient).all()
    assert (gradient.flatten(1).abs().amax(1) > 0).all()


@each_encoder
def test_the_value_with_a_graph_is_the_value_without(name: str) -> None:
    with_graph = encoder(name)(pixels(name).requires_grad_(), STEPS, keys())
    assert with_graph.requires_grad
    assert torch.equal(with_graph, encoder(name)(pixels(name), STEPS, keys()))


@each_encoder
def test_the_image_the_keys_and_the_random_stream_are_left_alone(name: str) -> None:
    x, image, stream = pixels(name), keys(), torch.random.get_rng_state()
    encoder(name)(x, STEPS, image)
    encoder(name)(x.clone().requires_grad_(), STEPS, image)
    assert torch.equal(x, pixels(name))
    assert torch.equal(image, keys())
    assert torch.equal(torch.random.get_rng_state(), stream)
