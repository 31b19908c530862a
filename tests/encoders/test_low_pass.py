"""FEEL's encoder against numpy's transform, entry by entry."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from oracles import defences as twin

from spikeproof.encoders.low_pass import LowPass
from spikeproof.errors import UsageError
from spikeproof.tensors import image_keys, uniform

KEYS = image_keys(0, torch.arange(2))


@pytest.mark.parametrize("shape", [(8, 8), (32, 32), (7, 9)])
def test_it_is_numpy_s_low_pass(shape: tuple[int, int]) -> None:
    x = uniform(KEYS, (1, *shape)).double()
    symmetric, faithful = (LowPass(drop=0.2, window=w)(x, 5, KEYS) for w in ("symmetric", "faithful"))  # type: ignore[arg-type]
    for t in range(5):
        radius = max(1, round(max(shape) // 2 * (1 - 0.2 * t)))
        for n in range(2):
            image = x[n, 0].numpy()
            whole = twin.low_pass(image, radius, upper=radius)
            assert np.abs(whole.imag).max() < 1e-12
            np.testing.assert_allclose(symmetric[t, n, 0].numpy(), whole.real.clip(0, 1), atol=1e-12)
            short = twin.low_pass(image, radius, upper=radius - 1)
            np.testing.assert_allclose(faithful[t, n, 0].numpy(), np.abs(short), atol=1e-12)


def test_the_published_radii() -> None:
    assert [LowPass().radius(t, 32) for t in range(8)] == [16, 14, 12, 10, 8, 6, 4, 2]
    assert [LowPass().radius(t, 32) for t in range(4)] == [16, 14, 12, 10]
    assert LowPass(drop=1.0).radius(9, 32) == 1


def test_the_first_step_is_the_image() -> None:
    x = uniform(KEYS, (3, 32, 32))
    assert torch.equal(LowPass()(x, 1, KEYS)[0], x)
    assert torch.equal(LowPass(window="faithful")(x, 1, KEYS)[0], x)


def test_the_released_window_is_not_hermitian() -> None:
    """At r = 14 on 32x32 the inverse has an imaginary part of up to some 0.16 (uniform noise)."""
    image = uniform(image_keys(1, torch.arange(1)), (32, 32))[0].double().numpy()
    assert 0.05 < np.abs(twin.low_pass(image, 14, upper=13).imag).max() < 0.3


def test_later_steps_are_smoother() -> None:
    z = LowPass(drop=0.2)(uniform(KEYS, (1, 16, 16)), 5, KEYS)
    rough = [float(z[t].diff(dim=-1).abs().mean()) for t in range(5)]
    assert rough == sorted(rough, reverse=True)
    assert rough[-1] < 0.5 * rough[0]


def test_its_gradient_is_that_of_differences() -> None:
    x = (0.3 + 0.4 * uniform(KEYS, (1, 6, 6))).double().requires_grad_()
    weights = uniform(image_keys(5, torch.arange(2)), (4, 1, 6, 6)).double().transpose(0, 1)
    for window in ("symmetric", "faithful"):
        assert torch.autograd.gradcheck(lambda v, w=window: LowPass(window=w)(v, 4, KEYS) * weights, (x,))  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"drop": -0.1}, {"drop": 1.5}, {"drop": float("nan")}, {"window": "round"}])
def test_a_wrong_option_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"^expected "):
        LowPass(**options)  # type: ignore[arg-type]
