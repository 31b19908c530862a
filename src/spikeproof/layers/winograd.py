"""3x3 convolutions with fewer products than taps, where their channels fill the processor's registers: Winograd's tiles
(Lavin and Gray, "Fast algorithms for convolutional neural networks", CVPR 2016), with their gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor
from torch.autograd import Function

from spikeproof.layers.kept import ONCE, Kept
from spikeproof.native.winograd import Points, convolved, kernels, tileable, weight_gradient

__all__ = ["by_tiles", "fits_tiles", "learned_by_tiles", "taps_alone"]


def _points(size: tuple[int, ...], closely: bool) -> Points:
    """`closely`: rounded about as by torch, where spikes are to be those of another network."""
    if tuple(size) == (2, 2):
        return 3
    return 4 if closely or min(size) == 2 else 6


def fits_tiles(x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> bool:
    """Whether x (N,C,H,W) goes through a weight by tiles: 3x3, at each pixel, with one pixel of zeros around, and maps
    of more than a line, which are a product of matrices."""
    fit = stride == padding == (1, 1) and tileable(x, weight) and min(x.shape[2:]) > 1
    return fit and not _TAPS_ALONE.get()


@contextmanager
def taps_alone() -> Iterator[None]:
    """No convolution goes by tiles within. For who counts the zeros of a gradient: what tiles add and take away again
    leaves rounding where taps leave nothing, in a weight's gradient, and in a map's where taps are themselves 0."""
    before = _TAPS_ALONE.set(True)
    try:
        yield
    finally:
        _TAPS_ALONE.reset(before)


_TAPS_ALONE: ContextVar[bool] = ContextVar("taps alone", default=False)


def by_tiles(x: Tensor, weight: Tensor, bias: Tensor | None, kept: Kept) -> Tensor:
    """x (N,C,H,W) that `fits_tiles` -> (N,K,H,W), channels-last, with gradients of every order in x and the weight, and
    none in the bias; kept: what is made of this weight, from call to call. A membrane near its threshold fires by
    the last bits of its currents, so these are rounded about as by torch; gradients, on which nothing hangs, more."""
    return _ByTiles.apply(x, weight, kept, bias, False, True)  # type: ignore[no-any-return, no-untyped-call]


def learned_by_tiles(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The same of a weight that is another one at the next call, with a gradient in the bias too. Rounded as gradients
    are: there is no other network that is to spike alike, and in train mode a last bit in the first layers, of which
    batch-norm makes a last bit everywhere, is other spikes in the last ones either way (decision 167)."""
    out: Tensor = _ByTiles.apply(x, weight, ONCE, None, False, False)  # type: ignore[no-untyped-call]
    return out if bias is None else out + bias[:, None, None]


class _ByTiles(Function):
    """Linear in x and in the weight. With `back` the other way round: what takes the gradient of the results to that of
    the maps, which is what its own gradient is made of."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, kept: Kept, bias: Tensor | None, back: bool, closely: bool
    ) -> Tensor:
        ctx.kept, ctx.back = kept, back
        ctx.save_for_backward(weight, *([x] if ctx.needs_input_grad[1] else []))
        points = _points(x.shape[2:], closely)
        known = kept.of(weight, ("tiles", points, back), lambda weight: kernels(weight, points, back=back))
        return convolved(x, known, bias)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        weight, *rest = ctx.saved_tensors
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = _ByTiles.apply(upstream, weight, ctx.kept, None, not ctx.back, False)  # type: ignore[no-untyped-call]
        if ctx.needs_input_grad[1]:
            maps, results = (upstream, *rest) if ctx.back else (*rest, upstream)
            of_weight = _OfWeight.apply(maps, results)  # type: ignore[no-untyped-call]
        return of_x, of_weight, None, None, None, None


class _OfWeight(Function):
    """The gradient of a weight, from maps (N,C,H,W) and the gradient of its results (N,K,H,W): linear in both."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, results: Tensor) -> Tensor:
        ctx.save_for_backward(maps, results)
        return weight_gradient(maps, results, _points(maps.shape[2:], closely=False))

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None]:
        maps, results = ctx.saved_tensors
        of_maps, of_results = None, None
        if ctx.needs_input_grad[0]:
            of_maps = _ByTiles.apply(results, upstream, ONCE, None, True, False)  # type: ignore[no-untyped-call]
        if ctx.needs_input_grad[1]:
            of_results = _ByTiles.apply(maps, upstream, ONCE, None, False, False)  # type: ignore[no-untyped-call]
        return of_maps, of_results
