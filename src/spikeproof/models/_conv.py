"""Convolutions on maps that they see whole, as one matrix product.

A network of 32x32 images works on 2x2 and 1x1 maps for much of its depth, where a general kernel multiplies padding.
Other kernels round otherwise: so deployed networks and training keep torch's own, bit by bit those of other frameworks,
and these serve the copies that attacks craft on (`_folded.py`).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Pair", "as_matrix", "by_matrix", "fits"]

Pair = tuple[int, int]


def _outputs(weight: Tensor, stride: Pair, padding: Pair, size: Pair) -> Pair:
    along = [(size[i] + 2 * padding[i] - weight.shape[2 + i]) // stride[i] + 1 for i in (0, 1)]
    return along[0], along[1]


def fits(weight: Tensor, stride: Pair, padding: Pair, size: Pair) -> bool:
    """Whether every output sees the whole (H,W) map: then a matrix holds no zeros, and no product is wasted."""
    last = [count - 1 for count in _outputs(weight, stride, padding, size)]
    return all(
        padding[i] - last[i] * stride[i] >= 0 and padding[i] + size[i] <= weight.shape[2 + i] for i in (0, 1)
    )


def as_matrix(weight: Tensor, stride: Pair, padding: Pair, size: Pair) -> Tensor:
    """weight (C',C,k,k) -> (H' W' C', H W C), differentiable: row (i,j,c') holds the taps with which output (i,j) sees
    the map. Only where it `fits`."""
    rows = []
    down, across = _outputs(weight, stride, padding, size)
    for i in range(down):
        for j in range(across):
            top, left = padding[0] - i * stride[0], padding[1] - j * stride[1]
            seen = weight[:, :, top : top + size[0], left : left + size[1]]
            rows.append(seen.permute(0, 2, 3, 1).reshape(len(weight), -1))
    return torch.cat(rows)


def by_matrix(
    x: Tensor, matrix: Tensor, bias: Tensor | None, weight: Tensor, stride: Pair, padding: Pair
) -> Tensor:
    """x (N,C,H,W) through `matrix`, made by `as_matrix` of the other arguments -> (N,C',H',W'), channels-last."""
    down, across = _outputs(weight, stride, padding, cast(Pair, tuple(x.shape[-2:])))
    flat = x.permute(0, 2, 3, 1).reshape(len(x), -1)  # a view of channels-last maps
    out = F.linear(flat, matrix, None if bias is None else bias.repeat(down * across))
    return out.view(len(x), down, across, -1).permute(0, 3, 1, 2)
