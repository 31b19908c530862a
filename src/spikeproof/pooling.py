"""Max pools with another backward: spikes tie, and torch sends the whole gradient to the first of the tied.

The forward is that of nn.MaxPool2d, bit by bit. Binary maps are full of equal maxima, so torch's choice leaves most
entries of a gradient at zero for no reason in the network.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikeproof.tensors import graft
from spikeproof.types import UsageError, refusal

__all__ = ["AveragedMaxPool", "TieSpreadMaxPool", "with_pooling"]


class _MaxPool(nn.Module):
    """Takes the settings of the layer that it replaces; UsageError where it has dilation, ceil_mode or indices."""

    def __init__(self, replaced: nn.MaxPool2d) -> None:
        super().__init__()
        if _pair(replaced.dilation) != (1, 1) or replaced.ceil_mode or replaced.return_indices:
            raise UsageError(
                refusal("a max pool without dilation, ceil_mode and indices", replaced, mend="leave pooling at None")
            )
        self.kernel_size = _pair(replaced.kernel_size)
        self.stride = _pair(replaced.stride)
        self.padding = _pair(replaced.padding)


class TieSpreadMaxPool(_MaxPool):
    """The gradient of a window goes to all its maxima, in equal shares."""

    def forward(self, x: Tensor) -> Tensor:
        """(*,H,W) -> (*,H',W')."""
        (height, width), (down, across), (rows, columns) = self.kernel_size, self.stride, self.padding
        padded = F.pad(x, (columns, columns, rows, rows), value=-torch.inf)
        windows = padded.unfold(-2, height, down).unfold(-2, width, across)
        return windows.amax((-2, -1))  # torch documents that amax, unlike max, shares the gradient among equal values


class AveragedMaxPool(_MaxPool):
    """The gradient is that of nn.AvgPool2d with the same window: every entry gets its share, the maxima no more."""

    def forward(self, x: Tensor) -> Tensor:
        """(*,H,W) -> (*,H',W')."""
        window = (self.kernel_size, self.stride, self.padding)
        return graft(F.max_pool2d(x.detach(), *window), F.avg_pool2d(x, *window))


_POOLINGS: dict[str, type[_MaxPool]] = {"tie_spread": TieSpreadMaxPool, "avg": AveragedMaxPool}


def with_pooling(body: nn.Module, pooling: str) -> nn.Module:
    """A copy of the network that shares its tensors, with another backward of every nn.MaxPool2d: 'tie_spread', 'avg'.

    A network without max pools comes back as an equal copy; one that calls F.max_pool2d itself cannot be reached.
    """
    if pooling not in _POOLINGS:
        raise UsageError(refusal("the backward of a max pool", repr(pooling), valid=_POOLINGS))
    shared: dict[int, object] = {id(t): t for t in [*body.parameters(), *body.buffers()]}
    found = copy.deepcopy(body, shared)
    for module in list(found.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                module.add_module(name, _POOLINGS[pooling](child).train(child.training))
    return found


def _pair(size: int | tuple[int, ...]) -> tuple[int, ...]:
    return (size, size) if isinstance(size, int) else tuple(size)
