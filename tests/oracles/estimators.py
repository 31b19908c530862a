"""Estimated gradients of one spiking neuron as scalar loops: BPTR, RGA, HART, PDSG, and ASSG's memory.

Pure Python floats, and NumPy for the standard deviation. A neuron is `neurons.Physics`; "gain 1" LIF with leak lambda
is Physics(tau=1 / (1 - lambda), decay_input=False). `weights[t]` is dL/ds[t] and the answer is dL/dI[t] throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from oracles.neurons import Physics, forward
from oracles.surrogates import SURROGATES

__all__ = [
    "assg_sharpness",
    "bptr",
    "hart",
    "leak_of",
    "mass_radius",
    "pdsg_derivative",
    "pdsg_sigma",
    "period",
    "rga",
    "rga_curve",
    "rga_slope",
    "straight_through",
    "time_recursion",
]


def leak_of(physics: Physics) -> float:
    """The share of the membrane that is kept from one step to the next."""
    return 1.0 if physics.tau is None else 1 - 1 / physics.tau


def _gain(physics: Physics) -> float:
    return 1 / physics.tau if physics.tau is not None and physics.decay_input else 1.0


def time_recursion(
    physics: Physics,
    currents: Sequence[float],
    weights: Sequence[float],
    derivatives: Sequence[float],
    *,
    through_time: bool = True,
    through_reset: bool = False,
) -> list[float]:
    """Backpropagation through time, where `derivatives[t]` stands for ds/du at step t (hard or soft reset)."""
    trace = forward(physics, currents)
    later, out = 0.0, [0.0] * len(currents)
    for t in reversed(range(len(currents))):
        u, s, h = trace.charged[t], trace.spikes[t], derivatives[t]
        if physics.v_reset is None:
            passed = 1 - (h * physics.v_threshold if through_reset else 0)
        else:
            passed = (1 - s) + (h * (physics.v_reset - u) if through_reset else 0)
        g = weights[t] * h + later * passed
        out[t] = _gain(physics) * g
        later = leak_of(physics) * g if through_time else 0.0
    return out


def straight_through(
    physics: Physics, currents: Sequence[float], weights: Sequence[float], through_time: bool, through_reset: bool
) -> list[float]:
    """ds/du = 1 everywhere."""
    ones = [1.0] * len(currents)
    return time_recursion(physics, currents, weights, ones, through_time=through_time, through_reset=through_reset)


def bptr(physics: Physics, currents: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Backward pass through rate (Ding et al. 2022): weights pass where the neuron fired, with no way through time."""
    fired = any(s == 1 for s in forward(physics, currents).spikes)
    return [w if fired else 0.0 for w in weights]


def rga_slope(leak: float, threshold: float, mean: float, low: float = 0.2, high: float = 2.0) -> float:
    """Slope of the rate curve of a gain 1 neuron: through (0,0), (knee, low knee), (high threshold, 1); 0 outside."""
    knee = (1 - leak) * threshold
    if 0 <= mean <= knee:
        # Without a leak the knee is at 0 and its stretch is that single point, which belongs to the rise.
        return low if knee > 0 else 1 / (high * threshold)
    if knee < mean <= high * threshold:
        return (1 - low * knee) / (high * threshold - knee)
    return 0.0


def rga_curve(leak: float, threshold: float, mean: float, low: float = 0.2, high: float = 2.0) -> float:
    """The rate curve itself, by interpolation."""
    knee = (1 - leak) * threshold
    return float(np.interp(mean, [0.0, knee, high * threshold], [0.0, low * knee, 1.0]))


def rga(physics: Physics, currents: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Rate gradient approximation (Bu et al. 2023): weights times the slope at the mean current.

    A decayed-input neuron is the gain 1 neuron fed with 1/tau of the current, so its slope is 1/tau of that one's.
    """
    gain = _gain(physics)
    mean = math.fsum(currents) / len(currents)
    slope = gain * rga_slope(leak_of(physics), physics.v_threshold, gain * mean)
    return [w * slope for w in weights]


def period(leak: float, threshold: float, current: float, longest: int = 1000) -> int:
    """Steps between two spikes of a gain 1 neuron with hard reset to 0 under a constant current; 0 if it is silent."""
    u = 0.0
    for step in range(1, longest + 1):
        u = leak * u + current
        if u >= threshold:
            return step
    return 0


def hart(physics: Physics, currents: Sequence[float], weights: Sequence[float], width: float = 1.0) -> list[float]:
    """HART (Hao et al. 2024): triangle max(0, width - |x|) / width^2 at each step, then the mean over the steps."""
    charged = forward(physics, currents).charged
    parts = [
        w * max(0.0, width - abs(u - physics.v_threshold)) / width**2 for w, u in zip(weights, charged, strict=True)
    ]
    return [_gain(physics) * math.fsum(parts) / len(parts)] * len(parts)


def pdsg_sigma(charged: NDArray[np.float64]) -> NDArray[np.float64]:
    """Membranes (T,*) of one channel of one image -> its width at each step, (T,).

    The unbiased standard deviation of everything up to that step; 1 where there is a single value, or no spread.
    """
    widths = []
    for t in range(len(charged)):
        seen = charged[: t + 1].ravel()
        spread = float(np.std(seen, ddof=1)) if seen.size > 1 else 0.0
        widths.append(spread if spread > 0 else 1.0)
    return np.array(widths)


def pdsg_derivative(x: float, sigma: float) -> float:
    """Gaussian of width sigma around sigma / 2."""
    return math.exp(-((x - sigma / 2) ** 2) / (2 * sigma**2)) / (math.sqrt(2 * math.pi) * sigma)


def mass_radius(name: str, mass: float) -> float:
    """alpha |x| that holds the share `mass` of a surrogate's area, by bisection on its primitive."""
    primitive: Callable[[float, float], float] = SURROGATES[name].primitive
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        if primitive(middle, 1.0) - primitive(-middle, 1.0) < mass:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def assg_sharpness(distances: Sequence[float], omega: float, decay: float = 0.9, relax: float = 1.5) -> list[float]:
    """ASSG's alpha of one neuron at one time step, over the iterations of an attack, from |u - threshold|.

    Moving mean from 1 and moving deviation from 0, not corrected for their starts; the mean is new when the deviation
    is taken.
    """
    mean, deviation, out = 1.0, 0.0, []
    for a in distances:
        mean = decay * mean + (1 - decay) * a
        deviation = decay * deviation + (1 - decay) * abs(a - mean)
        out.append(omega / (mean + relax * deviation + 1e-4))
    return out
