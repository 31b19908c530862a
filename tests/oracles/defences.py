"""Losses of defences in pure Python: lists of numbers in, one number out; nothing of a network is in them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = [
    "boosted", "cross_entropy", "divergence", "gaussian_overlap", "guarded", "leaky_filter", "low_pass", "mart",
    "retracted", "runner_up", "sigmoid", "softmax",
]  # fmt: skip


def softmax(z: Sequence[float]) -> list[float]:
    parts = [math.exp(value - max(z)) for value in z]
    return [part / math.fsum(parts) for part in parts]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def cross_entropy(z: Sequence[float], y: int) -> float:
    return -math.log(softmax(z)[y])


def runner_up(z: Sequence[float], y: int) -> int:
    """The likeliest class that is not y."""
    return max((j for j in range(len(z)) if j != y), key=lambda j: z[j])


def divergence(clean: Sequence[float], moved: Sequence[float]) -> float:
    """KL(p || q) in nats of the softmaxes of two logits."""
    return math.fsum(p * math.log(p / q) for p, q in zip(softmax(clean), softmax(moved), strict=True))


def boosted(z: Sequence[float], y: int) -> float:
    """MART's -log p_y - log(1 - the largest other), with its guard of 1e-4."""
    p = softmax(z)
    return -math.log(p[y]) - math.log(1.0001 - p[runner_up(z, y)])


def mart(clean: Sequence[float], moved: Sequence[float], y: int, beta: float) -> float:
    return boosted(moved, y) + beta * divergence(clean, moved) * (1 - softmax(clean)[y])


def guarded(heights: Sequence[float], delta: float) -> float:
    """Mean of max(0, delta - |height|)."""
    return math.fsum(max(0.0, delta - abs(h)) for h in heights) / len(heights)


def gaussian_overlap(mean: float, spread: float, gamma: float) -> float:
    """The mass of a Gaussian within +-gamma of 0."""
    return 0.5 * (math.erf((mean + gamma) / spread / math.sqrt(2)) - math.erf((mean - gamma) / spread / math.sqrt(2)))


def leaky_filter(currents: Sequence[float], leak: float, weights: Sequence[float]) -> list[float]:
    """e[t] = leak e[t-1] + weights[t] currents[t]."""
    found, e = [], 0.0
    for weight, current in zip(weights, currents, strict=True):
        e = leak * e + weight * current
        found.append(e)
    return found


def retracted(s: float, b: float) -> float:
    """A singular value after one retraction."""
    return s * (1 + b - b * s * s)


def low_pass(image: np.ndarray, radius: int, *, upper: int) -> np.ndarray:
    """The inverse transform, complex, of what lies in the centred window -radius..upper of a shifted spectrum."""
    shifted = np.fft.fftshift(np.fft.fft2(image))
    height, width = image.shape
    for row in range(height):
        for column in range(width):
            place = (row - height // 2, column - width // 2)
            if not all(-radius <= f <= upper for f in place):
                shifted[row, column] = 0
    return np.fft.ifft2(np.fft.ifftshift(shifted))
