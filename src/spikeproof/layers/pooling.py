"""Pools with another backward: of the attacker's choosing (`with_pooling`), or of a network's own (`stem_pool`).

Spikes tie, and torch sends the whole gradient of a max pool to the first of the tied: binary maps are full of equal
maxima, so that most entries of a gradient are zero for no reason in the network. Whether that is what makes max-pooled
networks look robust is what the pools of `stem_pool` are for: each has torch's forward, bit by bit, and the other
pool's way back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikeproof.errors import UsageError
from spikeproof.layers.copies import copied
from spikeproof.layers.max_pool import MaxPool2d, max_pool
from spikeproof.native.pools import Window, poolable, spread_backward
from spikeproof.tensors import fold, graft, image_keys, uniform

__all__ = ["AveragedMaxPool", "OneHotAvgPool", "Pool", "TieSpreadMaxPool", "stem_pool", "with_pooling"]

Pool: TypeAlias = Literal["max", "avg", "max_tie_spread", "max_avg_backward", "avg_one_hot"]
"""The pools that a network may have; see `stem_pool`."""


class _MaxPool(nn.MaxPool2d):
    """Takes the settings of the layer that it replaces; UsageError where it has dilation, ceil_mode or indices."""

    def __init__(self, replaced: nn.MaxPool2d) -> None:
        if _pair(replaced.dilation) != (1, 1) or replaced.ceil_mode or replaced.return_indices:
            raise UsageError(
                "a max pool without dilation, ceil_mode and indices", replaced, mend="leave pooling at None"
            )
        super().__init__(_pair(replaced.kernel_size), _pair(replaced.stride), _pair(replaced.padding))


class TieSpreadMaxPool(_MaxPool):
    """The gradient of a window goes to all its maxima, in equal shares."""

    def forward(self, x: Tensor) -> Tensor:
        """(*,C,H,W) -> (*,C,H',W')."""
        window = Window(_pair(self.kernel_size), _pair(self.stride), _pair(self.padding))
        return _TieSpread.apply(x, window)  # type: ignore[no-any-return, no-untyped-call]


class _TieSpread(torch.autograd.Function):
    """As amax over all windows would have it, but one place of the windows at a time: a window takes no memory of its
    own, and nothing is scattered. Linear in the upstream, and so its own second derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: Window) -> Tensor:
        out = _pooled(max_pool, x, *window)
        ctx.window = window
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        x, out = ctx.saved_tensors
        kernel, stride, (rows, columns) = ctx.window
        # What is asked for a second derivative goes through torch.
        if not torch.is_grad_enabled() and (found := _spread_in_c(x, out, upstream, ctx.window)) is not None:
            return found, None
        padded = F.pad(x.detach(), (columns, columns, rows, rows), value=-torch.inf)
        height, width = padded.shape[-2:]
        top, left = (step * (size - 1) + 1 for step, size in zip(stride, out.shape[-2:], strict=True))
        places = [
            (..., slice(i, i + top, stride[0]), slice(j, j + left, stride[1]))
            for i in range(kernel[0])
            for j in range(kernel[1])
        ]
        highest = [padded[place] == out for place in places]
        share = upstream / sum(one.to(upstream.dtype) for one in highest)
        found = upstream.new_zeros(padded.shape)
        for place, one in zip(places, highest, strict=True):
            found[place] += share * one
        return found[..., rows : height - rows, columns : width - columns], None


def _spread_in_c(x: Tensor, out: Tensor, upstream: Tensor, window: Window) -> Tensor | None:
    """The gradient of maps (*,C,H,W), bit by bit the same; None where there is no pool in C for them."""
    maps, best, above = (each.flatten(0, -4) if each.dim() > 4 else each for each in (x.detach(), out, upstream))
    return spread_backward(maps, best, above, window).view_as(x) if poolable(maps, window) else None


class AveragedMaxPool(_MaxPool):
    """The gradient is that of nn.AvgPool2d with the same window: every entry gets its share, the maxima no more."""

    def forward(self, x: Tensor) -> Tensor:
        """(*,C,H,W) -> (*,C,H',W')."""
        window = (self.kernel_size, self.stride, self.padding)
        return graft(_pooled(max_pool, x.detach(), *window), _pooled(F.avg_pool2d, x, *window))


class OneHotAvgPool(nn.AvgPool2d):
    """An average whose gradient goes to one entry of each window, drawn with equal chance: as sparse as a max pool's.

    Over the draws its mean is the gradient of nn.AvgPool2d; what falls on the padding is lost there too. The draw is a
    hash of the whole map's bits and of the position, because a layer knows no keys of images: the same map has the same
    gradient in every call and every batch, and another map another.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N,C,H,W) -> (N,C,H',W')."""
        value = super().forward(x.detach())
        if not x.requires_grad:
            return value
        windows = _windows(x, self, outside=0.0).flatten(-2)
        chosen = (uniform(_hashes(x.detach()), windows.shape[1:-1]) * windows.shape[-1]).to(torch.int64)
        return graft(value, windows.gather(-1, chosen[..., None])[..., 0])


def _pooled(pool: Callable[..., Tensor], x: Tensor, *window: Any) -> Tensor:
    """Of maps (*,C,H,W): torch's pools know one leading dimension, and SpikingJelly's layers have time before it."""
    if x.dim() <= 4:
        return pool(x, *window)
    found = pool(x.flatten(0, -4), *window)
    return found.view(*x.shape[:-3], *found.shape[1:])


def _windows(x: Tensor, pool: nn.MaxPool2d | nn.AvgPool2d, *, outside: float) -> Tensor:
    """(*,H,W) -> (*,H',W',height,width), padded with `outside`."""
    (height, width), (down, across) = _pair(pool.kernel_size), _pair(pool.stride)
    rows, columns = _pair(pool.padding)
    padded = F.pad(x, (columns, columns, rows, rows), value=outside)
    return padded.unfold(-2, height, down).unfold(-2, width, across)


def _hashes(x: Tensor) -> Tensor:
    """One key for each map (N,*): a sum of integers, which no order and no batch changes by a bit."""
    bits = x.to(torch.float32).flatten(1).contiguous().view(torch.int32).to(torch.int64)
    words = fold(image_keys(0, torch.arange(bits.shape[1], device=x.device)), "one-hot")
    return (bits * words).sum(1)


_POOLINGS: dict[str, type[_MaxPool]] = {"tie_spread": TieSpreadMaxPool, "avg": AveragedMaxPool}


def with_pooling(body: nn.Module, pooling: str) -> nn.Module:
    """A copy of the network that shares its tensors, with another backward of every nn.MaxPool2d: 'tie_spread', 'avg'.

    A network without max pools comes back as an equal copy; one that calls F.max_pool2d itself cannot be reached.
    """
    if pooling not in _POOLINGS:
        raise UsageError("the backward of a max pool", repr(pooling), valid=_POOLINGS)
    shared: dict[int, object] = {id(t): t for t in [*body.parameters(), *body.buffers()]}
    found = copied(body, shared)
    for module in list(found.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                module.add_module(name, _POOLINGS[pooling](child).train(child.training))
    return found


def stem_pool(pool: Pool) -> nn.Module:
    """A 3x3 pool of stride 2 and padding 1, without weights; UsageError for another name.

    'max' and 'avg' are torch's. 'max_tie_spread' and 'max_avg_backward' have the values of 'max', and the gradient
    spread over all maxima, or over the whole window; 'avg_one_hot' has the values of 'avg', and a gradient at one
    random entry of each window. An attacker's own pooling replaces the first three.
    """
    plain = MaxPool2d(3, 2, 1)
    if pool == "max":
        return plain
    if pool == "avg":
        return nn.AvgPool2d(3, 2, 1)
    if pool == "max_tie_spread":
        return TieSpreadMaxPool(plain)
    if pool == "max_avg_backward":
        return AveragedMaxPool(plain)
    if pool == "avg_one_hot":
        return OneHotAvgPool(3, 2, 1)
    raise UsageError("a stem pooling", repr(pool), valid=Pool.__args__, mend="set model.pool")


def _pair(size: int | tuple[int, ...]) -> tuple[int, int]:
    down, across = (size, size) if isinstance(size, int) else size
    return down, across
