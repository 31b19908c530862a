"""The same gradient as `graft` gives, derived by hand: one backward over all time steps.

With height x[t] = u[t] - v_threshold, surrogate derivative h, spike s, u[t+1] = a v[t] + b I[t+1] + const, and v[t] the
membrane after the reset:

    dL/du[t] = dL/ds[t] h(x[t]) + a dL/du[t+1] dv[t]/du[t],    dL/dI[t] = b dL/du[t]
    dv/du = (1 - s) - r (u - v_reset) h     hard reset          r = 1 if gradients pass through the reset, else 0
    dv/du = 1 - r v_threshold h             soft reset

In C (`spikeproof.native`) where that is there and knows neuron and surrogate. Else everything but the recursion is
computed for all steps at once, and the recursion is one multiply-add a step.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch
from torch import Tensor

from spikeproof import native
from spikeproof.errors import SpikeproofError
from spikeproof.neurons import Stepwise

__all__ = ["fused_scan"]


class _Shape(Protocol):
    """What of a surrogate the scan reads."""

    @property
    def through_time(self) -> bool: ...

    @property
    def through_reset(self) -> bool: ...

    def derivative(self, x: Tensor) -> Tensor:
        """Of the spike, at all heights (T,B,*) of a layer."""
        ...


class _Sharp(_Shape, Protocol):
    """A shape that the scan in C may know, by its name and this."""

    @property
    def alpha(self) -> float: ...


class _Scan(torch.autograd.Function):
    """In C it saves the currents and computes the membranes again; in torch it saves their heights."""

    @staticmethod
    def forward(ctx: Any, currents: Tensor, neuron: Stepwise, gains: tuple[float, float], shape: _Shape) -> Tensor:
        ctx.neuron, ctx.gains, ctx.shape = neuron, gains, shape
        kind = vars(type(shape)).get("kind")  # not an inherited one: a subclass may have another derivative
        ctx.known = neuron.known() if kind is not None and native.usable(currents) else None
        if kind is not None and ctx.known is not None:
            ctx.slope = native.Slope(kind, cast(_Sharp, shape).alpha, shape.through_time, shape.through_reset, gains)
            ctx.save_for_backward(currents)
            return neuron.spikes(currents)
        spikes, heights = neuron.heights(currents)
        ctx.save_for_backward(heights)
        return spikes

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # only with create_graph=True: this backward would be missing from that graph
            raise SpikeproofError(
                "a rule with a second derivative",
                f"create_graph=True through the fused backward of {ctx.shape}",
                mend="use the plain form, fused=False",
            )
        (saved,) = ctx.saved_tensors
        if ctx.known is not None:
            return native.scan_backward(ctx.known, ctx.slope, saved, upstream), None, None, None
        return _in_torch(ctx.neuron, ctx.gains, ctx.shape, saved, upstream), None, None, None


def _in_torch(neuron: Stepwise, gains: tuple[float, float], shape: _Shape, heights: Tensor, upstream: Tensor) -> Tensor:
    """Heights and the gradient of the spikes, both (T,B,*) -> the gradient of the currents."""
    a, b = gains
    slope = shape.derivative(heights)
    gradient = upstream * slope
    if shape.through_time:
        keep = _kept(neuron, heights, slope, shape.through_reset).mul_(a)
        for t in range(len(heights) - 2, -1, -1):
            gradient[t].addcmul_(keep[t], gradient[t + 1])
    return gradient.mul_(b) if b != 1.0 else gradient


def _kept(neuron: Stepwise, heights: Tensor, slope: Tensor, through_reset: bool) -> Tensor:
    """dv/du (T,B,*): what of the membrane's gradient survives the reset."""
    if neuron.v_reset is None:
        return 1.0 - neuron.v_threshold * slope if through_reset else torch.ones_like(heights)
    silent = (heights < 0).to(heights.dtype)
    if not through_reset:
        return silent
    return silent - (heights + (neuron.v_threshold - neuron.v_reset)) * slope


def fused_scan(neuron: Stepwise, gains: tuple[float, float], shape: _Shape, currents: Tensor) -> Tensor:
    """Currents (T,B,*) -> spikes (T,B,*), with the gradient of `shape` behind them; no second derivative."""
    return _Scan.apply(currents, neuron, gains, shape)  # type: ignore[no-any-return, no-untyped-call]
