"""One spiking neuron as a scalar loop over time, and the chain rule through that loop written out by hand.

Charge, with v_r the reset potential (0 under a soft reset):
  IF                  u = v + I
  LIF, decayed input  u = v + (I - (v - v_r)) / tau
  LIF, plain input    u = v - (v - v_r) / tau + I
Fire: s = 1 where u >= threshold. Reset: hard v = u (1 - s) + v_r s, soft v = u - threshold s. Start: v = v_r.
A PLIF neuron is the LIF neuron with 1 / tau = 1 / (1 + exp(-w)). The loop works on floats and on fractions.Fraction
alike, so that exact arithmetic can decide a tie at the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

__all__ = ["Gradient", "Physics", "Trace", "backward", "forward", "tau_of"]

Number = Any  # float or Fraction; the arithmetic is the same


class Physics(NamedTuple):
    """`tau` None is the IF neuron; `v_reset` None is the soft reset."""

    tau: Number | None = None
    decay_input: bool = True
    v_threshold: Number = 1
    v_reset: Number | None = 0

    @property
    def rest(self) -> Number:
        return 0 if self.v_reset is None else self.v_reset


class Trace(NamedTuple):
    """Per time step: spikes, membrane before the reset (`charged`), membrane after it, membrane before the charge."""

    spikes: list[Number]
    charged: list[Number]
    membrane: list[Number]
    before: list[Number]


class Gradient(NamedTuple):
    """dL/dI[t], and dL/dw of a PLIF neuron (0 for IF)."""

    currents: list[float]
    w: float


def tau_of(w: float) -> float:
    """The time constant of a PLIF neuron with parameter w."""
    return 1 + math.exp(-w)


def _step(x: Number) -> int:
    return 1 if x >= 0 else 0


def forward(physics: Physics, currents: Sequence[Number], spike: Callable[[Number], Number] = _step) -> Trace:
    """Input currents, one per time step -> trace. `spike` maps u - threshold to s (another one makes it smooth)."""
    trace = Trace([], [], [], [])
    v = physics.rest
    for current in currents:
        trace.before.append(v)
        if physics.tau is None:
            u = v + current
        elif physics.decay_input:
            u = v + (current - (v - physics.rest)) / physics.tau
        else:
            u = v - (v - physics.rest) / physics.tau + current
        s = spike(u - physics.v_threshold)
        v = u - physics.v_threshold * s if physics.v_reset is None else u * (1 - s) + physics.v_reset * s
        trace.spikes.append(s)
        trace.charged.append(u)
        trace.membrane.append(v)
    return trace


def backward(
    physics: Physics,
    currents: Sequence[float],
    trace: Trace,
    weights: Sequence[float],
    derivative: Callable[[float], float],
    *,
    through_time: bool = True,
    through_reset: bool = False,
) -> Gradient:
    """The gradient of L, where `weights[t]` is dL/ds[t] and `derivative` stands for ds/du at u - threshold.

    From the last step to the first, with G = dL/du[t] and D = dL/dv[t] (through the later steps alone):
      G[t] = weights[t] h[t] + D[t] dv/du,   D[t-1] = keep G[t],   dL/dI[t] = gain G[t]
    where u = keep v + gain I + constant, and dv/du is (1 - s) + h (v_r - u) under a hard reset, 1 - h threshold
    under a soft one; the terms with h drop where the reset is not differentiated. Without the way through time, D = 0.
    """
    leak = 0.0 if physics.tau is None else 1 / physics.tau
    keep = 1 - leak
    gain = leak if physics.tau is not None and physics.decay_input else 1.0
    later = 0.0
    w_gradient = 0.0
    out = [0.0] * len(currents)
    for t in reversed(range(len(currents))):
        u, s, v = trace.charged[t], trace.spikes[t], trace.before[t]
        h = derivative(u - physics.v_threshold)
        if physics.v_reset is None:
            passed = 1 - (h * physics.v_threshold if through_reset else 0)
        else:
            passed = (1 - s) + (h * (physics.v_reset - u) if through_reset else 0)
        g = weights[t] * h + later * passed
        out[t] = gain * g
        if physics.tau is not None:
            # u depends on leak = logistic(w) as leak (v_r - v [+ I]), and dleak/dw = leak (1 - leak).
            slope = physics.rest - v + (currents[t] if physics.decay_input else 0)
            w_gradient += g * slope * leak * (1 - leak)
        later = keep * g if through_time else 0.0
    return Gradient(out, w_gradient)
