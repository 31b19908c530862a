"""Convolutions that step over the pixels of small maps, with their gradients."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd import Function

from spikeproof.layers.kept import ONCE, Kept
from spikeproof.native.convolution import Pair
from spikeproof.native.strided import matrices, steppable, strided, strided_weight

__all__ = ["by_steps", "fits_steps"]

_SMALL = 64
"""Pixels of a map, up to which this is as fast as torch's kernels or faster; on larger maps these are."""


def fits_steps(x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> bool:
    """Whether x (N,C,H,W) goes this way through a weight (K,C,k,k): small maps, more than a pixel a step, and whole
    registers of channels."""
    return steppable(x, weight, stride, padding) and x.shape[2] * x.shape[3] <= _SMALL


def by_steps(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, kept: Kept) -> Tensor:
    """x (N,C,H,W) that `fits_steps` -> (N,K,H',W'), channels-last, with gradients of every order; kept: what is made of
    this weight, from call to call."""
    return _BySteps.apply(x, weight, bias, kept, (tuple(x.shape), stride, padding), False)  # type: ignore[no-any-return, no-untyped-call]


_Sizes = tuple[tuple[int, ...], Pair, Pair]
"""The shape of the maps, stride and padding."""


class _BySteps(Function):
    """Linear in x, in the weight and in the bias. With `back` the other way round: what takes the gradient of the
    results to that of the maps, which is what its own gradient is made of."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, kept: Kept, sizes: _Sizes, back: bool
    ) -> Tensor:
        ctx.kept, ctx.sizes, ctx.back = kept, sizes, back
        ctx.save_for_backward(weight, *([x] if ctx.needs_input_grad[1] else []))
        known = kept.of(weight, ("steps", back), lambda weight: matrices(weight, back=back))
        maps, stride, padding = sizes
        return strided(x, known, maps, weight.shape, bias, stride, padding, back=back)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        weight, *rest = ctx.saved_tensors
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = _BySteps.apply(upstream, weight, None, ctx.kept, ctx.sizes, not ctx.back)  # type: ignore[no-untyped-call]
        if ctx.needs_input_grad[1]:
            maps, results = (upstream, *rest) if ctx.back else (*rest, upstream)
            of_weight = _OfWeight.apply(maps, results, weight.shape, ctx.sizes)  # type: ignore[no-untyped-call]
        if ctx.needs_input_grad[2]:
            of_bias = upstream.sum((0, 2, 3))
        return of_x, of_weight, of_bias, None, None, None


class _OfWeight(Function):
    """The gradient of a weight, from maps (N,C,H,W) and the gradient of their results: linear in both."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, results: Tensor, weight: tuple[int, ...], sizes: _Sizes) -> Tensor:
        ctx.sizes = sizes
        ctx.save_for_backward(maps, results)
        return strided_weight(maps, results, weight, *sizes[1:])

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (maps, results), of_maps, of_results = ctx.saved_tensors, None, None
        if ctx.needs_input_grad[0]:
            of_maps = _BySteps.apply(results, upstream, None, ONCE, ctx.sizes, True)  # type: ignore[no-untyped-call]
        if ctx.needs_input_grad[1]:
            of_results = _BySteps.apply(maps, upstream, None, ONCE, ctx.sizes, False)  # type: ignore[no-untyped-call]
        return of_maps, of_results, None, None
