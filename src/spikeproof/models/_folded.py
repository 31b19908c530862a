"""A convolution and the batch-norm behind it as one layer without gradients of its own, executed for speed."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["FoldedConv", "fold"]


class FoldedConv(nn.Module):
    """A convolution with the batch-norm behind it: (N,C,H,W) -> (N,C',H',W'), channels-last; no weight has a gradient."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        shift = norm.bias.double() - norm.running_mean.double() * scale
        weight = (conv.weight.double() * scale[:, None, None, None]).to(conv.weight.dtype)
        self.register_buffer("weight", weight.detach().contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", shift.detach().to(conv.weight.dtype))
        self.stride, self.padding = conv.stride, cast(tuple[int, int], conv.padding)
        self._products: dict[tuple[int, int], Tensor] = {}
        self._deep: Tensor | None = None

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if height <= self.weight.shape[-2] and width <= self.weight.shape[-1]:
            return self._product(x)
        if self.stride == (2, 2) and x.shape[1] <= 4 and height % 2 == width % 2 == 0:
            return self._by_depth(x)
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)

    def _by_depth(self, x: Tensor) -> Tensor:
        """Stride 2 on few channels as stride 1 on four times as many, each 2x2 block of pixels folded into its channels:
        the same products, in vectors that are full."""
        kernel, padding = self.weight.shape[-2:], self.padding
        front = [pad % 2 for pad in padding]  # taps of weight 0, so that the first tap begins a block
        back = [(size + lead) % 2 for size, lead in zip(kernel, front, strict=True)]
        if self._deep is None:
            whole = F.pad(self.weight, (front[1], back[1], front[0], back[0]))
            self._deep = F.pixel_unshuffle(whole, 2).contiguous(memory_format=torch.channels_last)
        before = [(pad + lead) // 2 for pad, lead in zip(padding, front, strict=True)]
        after = [
            self._outputs(size, axis) + self._deep.shape[2 + axis] - 1 - size // 2 - before[axis]
            for axis, size in enumerate(x.shape[-2:])
        ]
        blocks = F.pad(F.pixel_unshuffle(x, 2), (before[1], after[1], before[0], after[0]))
        return F.conv2d(blocks.contiguous(memory_format=torch.channels_last), self._deep, self.bias)

    def _product(self, x: Tensor) -> Tensor:
        """The whole map at once: every output is a product of all inputs with a matrix of the taps that meet them."""
        height, width = x.shape[-2:]
        if (height, width) not in self._products:
            self._products[height, width] = self._matrix(height, width)
        matrix = self._products[height, width]
        down, across = self._outputs(height, 0), self._outputs(width, 1)
        flat = x.permute(0, 2, 3, 1).reshape(len(x), -1)  # a view of channels-last maps
        out = F.linear(flat, matrix, self.bias.repeat(down * across))
        return out.view(len(x), down, across, -1).permute(0, 3, 1, 2)

    def _outputs(self, size: int, axis: int) -> int:
        return (size + 2 * self.padding[axis] - self.weight.shape[2 + axis]) // self.stride[axis] + 1

    def _matrix(self, height: int, width: int) -> Tensor:
        """(H' W' C', H W C): the layer as a matrix, from its answers to the unit maps."""
        channels = self.weight.shape[1]
        units = torch.eye(height * width * channels, dtype=self.weight.dtype, device=self.weight.device)
        maps = units.view(-1, height, width, channels).permute(0, 3, 1, 2)
        answers = F.conv2d(maps, self.weight, None, self.stride, self.padding)
        return answers.permute(0, 2, 3, 1).reshape(len(units), -1).T.contiguous()


def fold(owner: nn.Module, conv: str, norm: str) -> None:
    """Put a folded layer in the place of `owner`'s convolution, and nothing in that of its batch-norm."""
    pair = cast(nn.Conv2d, owner.get_submodule(conv)), cast(nn.BatchNorm2d, owner.get_submodule(norm))
    owner.add_module(conv, FoldedConv(*pair))
    owner.add_module(norm, nn.Identity())
