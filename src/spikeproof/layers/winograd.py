"""3x3 convolutions with half the products and less, where their channels fill the processor's registers."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd import Function

from spikeproof.native.winograd import Points, convolved, kernels, tileable, weight_gradient

__all__ = ["Tiles", "by_tiles", "fits_tiles", "learned_by_tiles"]


class Tiles:
    """A weight (K,C,3,3) at the points of tiles, for maps forward and for their gradient back; made when needed."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight.detach()
        self._known: dict[tuple[bool, Points], Tensor] = {}

    def of(self, size: tuple[int, ...], back: bool) -> Tensor:
        """For maps of (H,W) pixels."""
        points = _points(size, back)
        if (back, points) not in self._known:
            self._known[back, points] = kernels(self.weight, points, back=back)
        return self._known[back, points]


def _points(size: tuple[int, ...], back: bool) -> Points:
    """A membrane near its threshold fires by the last bits of its currents: forward they are rounded less than by
    torch, and backwards, where nothing hangs on them, somewhat more."""
    if tuple(size) == (2, 2):
        return 3
    return 6 if back and min(size) > 2 else 4


def fits_tiles(x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> bool:
    """Whether x (N,C,H,W) goes through a weight by tiles: 3x3, at each pixel, with one pixel of zeros around, and maps
    of more than a line, which are a product of matrices."""
    return stride == padding == (1, 1) and min(x.shape[2:]) > 1 and tileable(x, weight)


def by_tiles(x: Tensor, tiles: Tiles, bias: Tensor | None) -> Tensor:
    """x (N,C,H,W) that `fits_tiles` -> (N,K,H,W), channels-last. It has a gradient in x alone."""
    return _ByTiles.apply(x, None, tiles, bias, False)  # type: ignore[no-any-return, no-untyped-call]


def learned_by_tiles(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The same with gradients in the weight and the bias too, and of every order."""
    out: Tensor = _ByTiles.apply(x, weight, Tiles(weight), None, False)  # type: ignore[no-untyped-call]
    return out if bias is None else out + bias[:, None, None]


class _ByTiles(Function):
    """Linear in x and in the weight. With `back` the other way round: what takes the gradient of the results to that of
    the maps, which is what its own gradient is made of."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, tiles: Tiles, bias: Tensor | None, back: bool) -> Tensor:
        ctx.tiles, ctx.back = tiles, back
        ctx.save_for_backward(*([] if weight is None else [x, weight]))
        return convolved(x, tiles.of(x.shape[2:], back), bias)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors or (upstream, None)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = _ByTiles.apply(upstream, weight, ctx.tiles, None, not ctx.back)  # type: ignore[no-untyped-call]
        if ctx.needs_input_grad[1]:
            maps, results = (upstream, x) if ctx.back else (x, upstream)
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
        upstream = upstream.contiguous()
        tiles, of_maps, of_results = Tiles(upstream), None, None
        if ctx.needs_input_grad[0]:
            of_maps = _ByTiles.apply(results, upstream, tiles, None, True)  # type: ignore[no-untyped-call]
        if ctx.needs_input_grad[1]:
            of_results = _ByTiles.apply(maps, upstream, tiles, None, False)  # type: ignore[no-untyped-call]
        return of_maps, of_results
