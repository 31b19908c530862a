"""Every corruption: an image of any size stays an image, by its own key alone, and is worse off at each severity."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spikeproof import parts
from spikeproof.data.digits import Digits
from spikeproof.errors import UsageError
from spikeproof.tensors import image_keys, uniform
from spikeproof.types import Corruption

each_corruption = pytest.mark.parametrize("name", parts.names("corruptions"))
B = 6
KEYS = image_keys(1, torch.arange(B))


def corruption(name: str, severity: int) -> Corruption:
    part: Corruption = parts.build("corruptions", {"name": name}, severity=severity)
    return part


def images(channels: int, height: int, width: int) -> Tensor:
    """Smooth in one direction and rough in the other, with black and white among them."""
    x = uniform(image_keys(2, torch.arange(B)), (channels, height, width)) * torch.linspace(0, 1, width)
    x[:, :, 0, 0], x[:, :, -1, -1] = 0.0, 1.0
    return x


@each_corruption
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (2, 5, 7), (3, 1, 1), (1, 70, 64)])
def test_an_image_of_any_size_stays_an_image(name: str, shape: tuple[int, int, int]) -> None:
    for dtype in (torch.float32, torch.float64):
        x = images(*shape).to(dtype)
        before = x.clone()
        for severity in (1, 5):
            y = corruption(name, severity)(x, KEYS)
            assert y.shape == x.shape
            assert y.dtype == dtype
            assert y.min() >= 0
            assert y.max() <= 1
        assert torch.equal(x, before)


@each_corruption
def test_the_same_key_gives_the_same_image_in_any_batch(name: str) -> None:
    x, order = images(3, 8, 8), torch.tensor([4, 0, 5, 2, 1, 3])
    whole = corruption(name, 3)(x, KEYS)
    torch.testing.assert_close(corruption(name, 3)(x[order], KEYS[order]), whole[order], rtol=0, atol=1e-6)
    for i in range(B):
        alone = corruption(name, 3)(x[i : i + 1], KEYS[i : i + 1])
        torch.testing.assert_close(alone, whole[i : i + 1], rtol=0, atol=1e-6)


@each_corruption
def test_each_severity_takes_images_further_away(name: str) -> None:
    for x in (images(3, 32, 32), Digits().load("test").at(torch.arange(B))[0]):
        way = torch.tensor([float((corruption(name, severity)(x, KEYS) - x).abs().mean()) for severity in range(1, 6)])
        assert way[0] > 0
        assert (way.diff() > 0).all()


@each_corruption
@pytest.mark.parametrize("severity", [0, 6, -1])
def test_other_severities_are_refused(name: str, severity: int) -> None:
    with pytest.raises(UsageError, match=r"severity in 1\.\.5"):
        corruption(name, severity)
