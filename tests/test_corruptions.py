"""What each corruption does, against the moments of its noise, plain loops over pixels, and other libraries."""

from __future__ import annotations

import colorsys
import math
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from spikeproof import parts
from spikeproof.tensors import image_keys, uniform

N = 40
KEYS = image_keys(3, torch.arange(N))


def corrupted(name: str, severity: int, x: Tensor) -> Tensor:
    found: Tensor = parts.build("corruptions", {"name": name}, severity=severity)(x, KEYS[: len(x)])
    return found


def grey(level: float) -> Tensor:
    return torch.full((N, 3, 32, 32), level)


def close(value: float, expected: float, error: float) -> None:
    assert abs(value - expected) < 5 * error


@pytest.mark.parametrize(("severity", "sigma"), list(enumerate([0.04, 0.06, 0.08, 0.09, 0.10], start=1)))
def test_gaussian_noise_has_its_spread(severity: int, sigma: float) -> None:
    noise = (corrupted("gaussian_noise", severity, grey(0.5)) - 0.5).double()
    close(noise.mean().item(), 0.0, sigma / math.sqrt(noise.numel()))
    close(noise.std().item(), sigma, sigma / math.sqrt(2 * noise.numel()))


@pytest.mark.parametrize(("severity", "photons"), list(enumerate([500, 250, 100, 75, 50], start=1)))
@pytest.mark.parametrize("level", [0.02, 0.3])
def test_shot_noise_counts_photons(severity: int, photons: int, level: float) -> None:
    counts = (photons * corrupted("shot_noise", severity, grey(level))).double()
    torch.testing.assert_close(counts, counts.round(), rtol=0, atol=1e-4)
    mean, n = photons * level, counts.numel()
    close(counts.mean().item(), mean, math.sqrt(mean / n))
    close(counts.var().item(), mean, math.sqrt((mean + 2 * mean**2) / n))  # fourth moment of a Poisson count
    close((counts == 0).double().mean().item(), math.exp(-mean), math.sqrt(math.exp(-mean) / n) + 1e-9)


@pytest.mark.parametrize(("severity", "share"), list(enumerate([0.01, 0.02, 0.03, 0.05, 0.07], start=1)))
def test_impulse_noise_is_half_salt_half_pepper(severity: int, share: float) -> None:
    x = corrupted("impulse_noise", severity, grey(0.4))
    for level in (0.0, 1.0):
        close((x == level).double().mean().item(), share / 2, math.sqrt(share / 2 / x.numel()))
    assert set(x.unique().tolist()) == {0.0, torch.tensor(0.4).item(), 1.0}


def test_noise_is_no_pattern() -> None:
    """Neighbours and channels do not know of each other."""
    for name in ("gaussian_noise", "shot_noise"):
        noise = corrupted(name, 5, grey(0.5)).double()
        noise = (noise - noise.mean()) / noise.std()
        for one, other in ((noise[..., 1:], noise[..., :-1]), (noise[:, 0], noise[:, 1]), (noise[:-1], noise[1:])):
            close((one * other).mean().item(), 0.0, 1 / math.sqrt(one.numel()))


def reflected(i: int, n: int, *, edge: bool) -> int:
    """Index i on 0..n-1: continued (edge) or mirrored about the outermost pixel."""
    if edge or n == 1:
        return min(max(i, 0), n - 1)
    i = abs(i) % (2 * n - 2)
    return i if i < n else 2 * n - 2 - i


def blurred(x: Tensor, kernel: dict[tuple[int, int], float], *, edge: bool) -> Tensor:
    """By walking over pixels and the entries of the kernel."""
    (height, width), rows, total = x.shape, x.tolist(), sum(kernel.values())

    def walked(i: int, j: int) -> float:
        return sum(
            weight / total * rows[reflected(i + di, height, edge=edge)][reflected(j + dj, width, edge=edge)]
            for (di, dj), weight in kernel.items()
        )

    return torch.tensor([[walked(i, j) for j in range(width)] for i in range(height)], dtype=x.dtype)


@pytest.mark.parametrize("side", [8, 64])
@pytest.mark.parametrize(("severity", "sigma"), [(1, 0.4), (3, 0.7), (5, 1.0)])
def test_gaussian_blur_is_a_gaussian_window_that_grows_with_the_image(side: int, severity: int, sigma: float) -> None:
    x = uniform(KEYS[:1], (1, side, 9 if side == 8 else side)).double()
    sigma *= max(1.0, side / 32)
    reach = int(4 * sigma + 0.5)
    kernel = {
        (i, j): math.exp(-(i * i + j * j) / (2 * sigma**2))
        for i in range(-reach, reach + 1) for j in range(-reach, reach + 1)
    }  # fmt: skip
    crop = x[0, 0][: 8 if side == 8 else 20, : 9 if side == 8 else 20]
    expected, inside = blurred(crop, kernel, edge=True), slice(0, 8)  # what is cut off is farther than the kernel
    torch.testing.assert_close(corrupted("gaussian_blur", severity, x)[0, 0][inside, inside], expected[inside, inside])


@pytest.mark.parametrize(
    ("severity", "disk", "edge"),
    [
        (1, [(0, 0)], 0.4),
        (3, [(0, 0)], 0.6),
        (4, [(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)], 0.2),
        (5, [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)], 0.1),
    ],
)
def test_defocus_blur_is_a_soft_disk(severity: int, disk: list[tuple[int, int]], edge: float) -> None:
    x = uniform(KEYS[:1], (1, 6, 9)).double()
    kernel: dict[tuple[int, int], float] = {}
    for i, j in disk:
        for di in (-1, 0, 1):
            for dj in (-1, 0, 1):
                weight = math.exp(-(di * di + dj * dj) / (2 * edge**2))
                kernel[i + di, j + dj] = kernel.get((i + di, j + dj), 0.0) + weight
    torch.testing.assert_close(corrupted("defocus_blur", severity, x)[0, 0], blurred(x[0, 0], kernel, edge=False))


def test_blurs_keep_a_grey_image_and_touch_no_other_channel() -> None:
    for name in ("gaussian_blur", "defocus_blur"):
        torch.testing.assert_close(corrupted(name, 5, grey(0.3)), grey(0.3))
        x = torch.zeros(1, 3, 12, 12)
        x[0, 1, 6, 6] = 1.0
        y = corrupted(name, 5, x)
        assert not y[0, 0].any()
        assert not y[0, 2].any()
        assert y[0, 1].sum().item() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(("severity", "factor"), list(enumerate([0.75, 0.5, 0.4, 0.3, 0.15], start=1)))
def test_contrast_shrinks_the_spread_about_the_mean(severity: int, factor: float) -> None:
    x = uniform(KEYS, (2, 6, 6)).double()
    y = corrupted("contrast", severity, x)
    torch.testing.assert_close(y.mean((2, 3)), x.mean((2, 3)))
    torch.testing.assert_close(y.std((2, 3)), factor * x.std((2, 3)))


@pytest.mark.parametrize(("severity", "more"), list(enumerate([0.05, 0.1, 0.15, 0.2, 0.3], start=1)))
def test_brightness_raises_the_value_of_hsv(severity: int, more: float) -> None:
    x = uniform(KEYS[:2], (3, 5, 5)).double()
    x[:, :, 0, 0] = 0.0
    y = corrupted("brightness", severity, x)
    for image, found in zip(x, y, strict=True):
        for pixel, got in zip(image.flatten(1).T.tolist(), found.flatten(1).T.tolist(), strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
            assert got == pytest.approx(colorsys.hsv_to_rgb(hue, saturation, min(1.0, value + more)), abs=1e-9)
    one = uniform(KEYS[:2], (1, 5, 5))
    torch.testing.assert_close(corrupted("brightness", severity, one), (one + more).clamp(max=1))


@pytest.mark.parametrize(("severity", "quality"), list(enumerate([80, 65, 58, 50, 40], start=1)))
def test_jpeg_is_that_of_pillow(severity: int, quality: int) -> None:
    x = uniform(KEYS[:1], (3, 16, 16))
    bytes_ = np.round(255 * x[0].double().numpy()).astype(np.uint8)
    file = BytesIO()
    Image.fromarray(np.ascontiguousarray(bytes_.transpose(1, 2, 0)), "RGB").save(file, "JPEG", quality=quality)
    expected = torch.as_tensor(np.asarray(Image.open(file)).transpose(2, 0, 1) / 255.0).float()
    assert torch.equal(corrupted("jpeg", severity, x)[0], expected)
