"""Five surrogate derivatives h(x), x = u - threshold, and their integrals from minus infinity, in closed form.

All have unit mass, so each primitive runs from 0 to 1 and is 1/2 at 0. Pure Python floats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["SURROGATES", "Surrogate"]


class Surrogate(NamedTuple):
    """`derivative(x, alpha)` and `primitive(x, alpha)`; `edges(alpha)`: where the derivative is not smooth."""

    derivative: Callable[[float, float], float]
    primitive: Callable[[float, float], float]
    edges: Callable[[float], list[float]]


def _logistic(x: float) -> float:
    # Two branches, so that neither end overflows or rounds to the wrong side.
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _atan_derivative(x: float, alpha: float) -> float:
    return (alpha / 2) / (1 + (math.pi * alpha * x / 2) ** 2)


def _atan_primitive(x: float, alpha: float) -> float:
    return 0.5 + math.atan(math.pi * alpha * x / 2) / math.pi


def _sigmoid_derivative(x: float, alpha: float) -> float:
    return alpha * _logistic(alpha * x) * _logistic(-alpha * x)


def _sigmoid_primitive(x: float, alpha: float) -> float:
    return _logistic(alpha * x)


def _triangle_derivative(x: float, alpha: float) -> float:
    return max(0.0, alpha - alpha**2 * abs(x))


def _triangle_primitive(x: float, alpha: float) -> float:
    if abs(x) >= 1 / alpha:
        return 1.0 if x > 0 else 0.0
    # Area of the half triangle beyond |x| is (1 - alpha |x|)^2 / 2.
    tail = (1 - alpha * abs(x)) ** 2 / 2
    return 1 - tail if x > 0 else tail


def _rectangle_derivative(x: float, alpha: float) -> float:
    return alpha / 2 if abs(x) < 1 / alpha else 0.0


def _rectangle_primitive(x: float, alpha: float) -> float:
    return min(1.0, max(0.0, (x + 1 / alpha) * alpha / 2))


def _gaussian_derivative(x: float, alpha: float) -> float:
    return alpha / math.sqrt(2 * math.pi) * math.exp(-((alpha * x) ** 2) / 2)


def _gaussian_primitive(x: float, alpha: float) -> float:
    return math.erfc(-alpha * x / math.sqrt(2)) / 2


SURROGATES = {
    "atan": Surrogate(_atan_derivative, _atan_primitive, lambda alpha: []),
    "sigmoid": Surrogate(_sigmoid_derivative, _sigmoid_primitive, lambda alpha: []),
    "triangle": Surrogate(_triangle_derivative, _triangle_primitive, lambda alpha: [-1 / alpha, 0.0, 1 / alpha]),
    "rectangle": Surrogate(_rectangle_derivative, _rectangle_primitive, lambda alpha: [-1 / alpha, 1 / alpha]),
    "gaussian": Surrogate(_gaussian_derivative, _gaussian_primitive, lambda alpha: []),
}
