"""3x3 convolutions with fewer products than taps, where their channels fill the processor's registers: Winograd's tiles
(Lavin and Gray, "Fast algorithms for convolutional neural networks", CVPR 2016), with their gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor
from torch.autograd import Function

from spikeproof.native.winograd import Points, convolved, kernels, tileable, weight_gradient

__all__ = ["Tiles", "by_tiles", "fits_tiles", "learned_by_tiles", "taps_alone"]


class Tiles:
    """A weight (K,C,3,3) at the points of tiles, for maps forward and for their gradient back; made when needed, and
    again for another weight or one that was written to (but through `.data`). A copy begins with none."""

    def __init__(self) -> None:
        self._known: dict[tuple[bool, Points], tuple[_Version, Tensor, Tensor]] = {}

    def __reduce__(self) -> tuple[type[Tiles], tuple[()]]:
        return Tiles, ()

    def of(self, weight: Tensor, size: tuple[int, ...], back: bool) -> Tensor:
        """For maps of (H,W) pixels."""
        points = _points(size, back)
        if weight.is_inference():  # has no version
            return kernels(weight, points, back=back)
        version = weight.data_ptr(), weight._version, weight.shape, weight.stride()
        known = self._known.get((back, points))
        if known is None or known[0] != version:
            # The weight is kept, so that no other one comes to lie at its address.
            known = version, kernels(weight.detach(), points, back=back), weight.detach()
            self._known[back, points] = known
        return known[1]


_Version = tuple[int, int, tuple[int, ...], tuple[int, ...]]
"""Where a weight lies, how often it was written to, and which numbers there it has."""


def _points(size: tuple[int, ...], back: bool) -> Points:
    """A membrane near its threshold fires by the last bits of its currents: forward they are rounded about as by torch,
    and backwards, where nothing hangs on them, somewhat more."""
    if tuple(size) == (2, 2):
        return 3
    return 6 if back and min(size) > 2 else 4


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


def by_tiles(x: Tensor, weight: Tensor, bias: Tensor | None, tiles: Tiles) -> Tensor:
    """x (N,C,H,W) that `fits_tiles` -> (N,K,H,W), channels-last, with gradients of every order in x and the weight, and
    none in the bias; tiles: those of this weight, kept from call to call."""
    return _ByTiles.apply(x, weight, tiles, bias, False)  # type: ignore[no-any-return, no-untyped-call]


def learned_by_tiles(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The same of a weight that is another one at the next call, with a gradient in the bias too."""
    out = by_tiles(x, weight, None, Tiles())
    return out if bias is None else out + bias[:, None, None]


class _ByTiles(Function):
    """Linear in x and in the weight. With `back` the other way round: what takes the gradient of the results to that of
    the maps, which is what its own gradient is made of."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, tiles: Tiles, bias: Tensor | None, back: bool) -> Tensor:
        ctx.tiles, ctx.back = tiles, back
        ctx.save_for_backward(weight, *([x] if ctx.needs_input_grad[1] else []))
        return convolved(x, tiles.of(weight, x.shape[2:], back), bias)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        weight, *rest = ctx.saved_tensors
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = _ByTiles.apply(upstream, weight, ctx.tiles, None, not ctx.back)  # type: ignore[no-untyped-call]
        if ctx.needs_input_grad[1]:
            maps, results = (upstream, *rest) if ctx.back else (*rest, upstream)
            of_weight = _OfWeight.apply(maps, results)  # type: ignore[no-untyped-call]
        return of_x, of_weight, None, None, None


class _OfWeight(Function):
    """The gradient of a weight, from maps (N,C,H,W) and the gradient of its results (N,K,H,W): linear in both."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, results: Tensor) -> Tensor:
        ctx.save_for_backward(maps, results)
        return weight_gradient(maps, results, _points(maps.shape[2:], back=True))

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None]:
        maps, results = ctx.saved_tensors
        tiles, of_maps, of_results = Tiles(), None, None
        if ctx.needs_input_grad[0]:
            of_maps = _ByTiles.apply(results, upstream, tiles, None, True)  # type: ignore[no-untyped-call]
        if ctx.needs_input_grad[1]:
            of_results = _ByTiles.apply(maps, upstream, tiles, None, False)  # type: ignore[no-untyped-call]
        return of_maps, of_results
