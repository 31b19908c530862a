"""Several processes that train one network: who has which images of a batch, and what they add up.

Every image keys its own randomness, so it does not matter which process has it. What a batch shares is its mean loss
and the statistics of batch-norm; both are summed over all processes, and the weights stay alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, distributed
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from spikeproof.errors import UsageError

__all__ = ["ALONE", "Synchronised", "World", "summed"]


class World(NamedTuple):
    """One of `size` processes, of number `rank`, in torch's default process group; with size 1 there need be none."""

    rank: int
    size: int

    @property
    def writes(self) -> bool:
        """Whether this one writes files: the first does."""
        return self.rank == 0

    def share(self, index: Tensor) -> Tensor:
        """This process's part of a batch's images, in their order; the parts differ by one image at most."""
        return index if self.size == 1 else torch.tensor_split(index, self.size)[self.rank]

    def weight(self, index: Tensor) -> float:
        """What the mean over this process's part counts for, where the mean over all processes is taken of it."""
        return len(self.share(index)) * self.size / len(index)

    def total(self, *numbers: float) -> list[float]:
        """The sum of each over all processes."""
        if self.size == 1:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.float64)
        values = values.cuda() if distributed.get_backend() == "nccl" else values
        distributed.all_reduce(values)
        return cast(list[float], values.tolist())

    def refuse_small(self, batches: list[Tensor]) -> None:
        """UsageError for a batch that has less images than there are processes."""
        if (least := min(map(len, batches), default=self.size)) < self.size:
            mend = "fewer processes, or another recipe.batch_size: the last batch of an epoch counts too"
            raise UsageError(f"an image of every batch for each of {self.size} processes", f"{least} images", mend=mend)


ALONE = World(0, 1)


class _Summed(torch.autograd.Function):
    """The sum over all processes of what each has; so every process's loss depends on it, and its gradient is summed
    too. Differentiable as often as wanted."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.detach().clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return summed(gradients[0])


def summed(value: Tensor) -> Tensor:
    """The sum of a tensor over all processes, with graph."""
    return cast(Tensor, cast(Any, _Summed).apply(value))


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """That of torch, of x (N,C,*), by the statistics of the batches of all processes."""
    if not training:
        return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    dims, shape = [0, *range(2, x.ndim)], [1, -1, *[1] * (x.ndim - 2)]
    sums = summed(torch.cat([x.sum(dims), x.new_tensor([x.numel() / x.shape[1]])]))
    count = sums[-1].detach()
    mean = sums[:-1] / count
    # Around the mean: the difference of two large squares would lose the digits.
    centred = x - mean.view(shape)
    var = summed(centred.square().sum(dims)) / count
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * count / (count - 1)).to(running_var.dtype), momentum)
    normal = centred * (var + eps).rsqrt().view(shape)
    scaled = normal if weight is None else normal * weight.view(shape)
    return scaled if bias is None else scaled + bias.view(shape)


class Synchronised(TorchFunctionMode):
    """Inside it every batch-norm in train mode takes the statistics of all processes, whatever layer asks for it; no
    layer is exchanged, so that weights and checkpoints are those of one process. torch's SyncBatchNorm is for GPUs
    alone."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return (_batch_norm if func is F.batch_norm else func)(*args, **kwargs or {})
