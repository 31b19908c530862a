"""Networks whose neurons are written by hand, each in a way that public code has: what they do, in a few lines of ours.

Sources of the facts: thiswinex/STBP-simple and its many descendants (a loop of membranes, the threshold a constant of
the file, `apply` bound to a name); the neurons of "Temporal Efficient Training" (Deng et al., ICLR 2022; a module a
layer, (N,T,*), the threshold subtracted before); neurons with learned thresholds and decays; straight-through terms.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

THRESHOLD, DECAY, STEPS = 0.5, 0.25, 4


class Window(torch.autograd.Function):
    """The threshold is a constant of the file."""

    @staticmethod
    def forward(ctx: Any, membrane: Tensor) -> Tensor:
        ctx.save_for_backward(membrane)
        return membrane.gt(THRESHOLD).float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (membrane,) = ctx.saved_tensors
        return grads[0].clone() * ((membrane - THRESHOLD).abs() < 0.5).float()


window = Window.apply


class Loop(nn.Module):
    """A loop over membranes and spikes of the step before, and the rate of the last layer's spikes."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(64, 48), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        mem1 = spike1 = x.new_zeros(len(x), 48)
        mem2 = spike2 = count = x.new_zeros(len(x), 10)
        for _ in range(STEPS):
            mem1 = mem1 * DECAY * (1 - spike1) + self.fc1(x.flatten(1))
            spike1 = window(mem1)
            mem2 = mem2 * DECAY * (1 - spike2) + self.fc2(spike1)
            spike2 = window(mem2)
            count = count + spike2
        return count / STEPS


class Tent(torch.autograd.Function):
    """Its backward writes into the gradient that it is given."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        height, width = given
        if height.requires_grad:
            ctx.save_for_backward(height)
        ctx.width = width
        return (height > 0).float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (height,) = ctx.saved_tensors
        (grad,) = grads
        grad *= (ctx.width - height.abs()).clamp(min=0) / ctx.width**2
        return grad, None


class TentNeuron(nn.Module):
    """(N,T,*) -> (N,T,*)."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.fire, self.threshold = Tent.apply, threshold

    def forward(self, x: Tensor) -> Tensor:
        mem: Any = 0
        spikes = []
        for t in range(x.shape[1]):
            mem = mem * 0.5 + x[:, t]
            spike = self.fire(mem - self.threshold, 1.0)
            mem = (1 - spike) * mem
            spikes.append(spike)
        return torch.stack(spikes, dim=1)


class BatchFirst(nn.Module):
    """A module a layer, on (N,T,C,H,W), folded where a layer has no memory."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.first = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), TentNeuron(0.3)
        self.fc, self.second = nn.Linear(96, 10), TentNeuron(0.2)

    def forward(self, x: Tensor) -> Tensor:
        z = x.unsqueeze(1).repeat(1, STEPS, 1, 1, 1)
        z = self.first(self.norm(self.conv(z.flatten(0, 1))).unflatten(0, (-1, STEPS)))
        z = F.avg_pool2d(z.flatten(0, 1), 2).flatten(1)
        return self.second(self.fc(z).unflatten(0, (-1, STEPS))).mean(1)  # type: ignore[no-any-return]


class Learned(torch.autograd.Function):
    """The threshold is an argument, and learns."""

    @staticmethod
    def forward(ctx: Any, membrane: Tensor, threshold: Tensor, sharp: float) -> Tensor:
        ctx.save_for_backward(membrane, threshold)
        ctx.sharp = sharp
        return (membrane >= threshold).to(membrane.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        membrane, threshold = ctx.saved_tensors
        s = torch.sigmoid(ctx.sharp * (membrane - threshold))
        grad = grads[0] * ctx.sharp * s * (1 - s)
        return grad, -grad.sum_to_size(threshold.shape), None


class LearnedCell(nn.Module):
    """One step a call, a threshold and a decay a neuron, and a soft reset by the threshold."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.linspace(0.3, 0.9, width))
        self.decay = nn.Parameter(torch.linspace(-1.0, 1.0, width))

    def forward(self, x: Tensor, mem: Tensor) -> tuple[Tensor, Tensor]:
        mem = mem * self.decay.sigmoid() + x
        spike = Learned.apply(mem, self.threshold, 4.0)  # type: ignore[no-untyped-call]
        return spike, mem - spike * self.threshold


class LearnedNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.cell, self.fc2 = nn.Linear(64, 48), LearnedCell(48), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        mem, out = x.new_zeros(len(x), 48), []
        for _ in range(STEPS):
            spike, mem = self.cell(self.fc1(x.flatten(1)), mem)
            out.append(self.fc2(spike))
        return torch.stack(out)


class Straight(nn.Module):
    """A term whose value is the comparison's."""

    def forward(self, height: Tensor) -> Tensor:
        soft = torch.sigmoid(5 * height)
        return (height > 0).float() + soft - soft.detach()


class StraightNetwork(nn.Module):
    """Scaled spikes: each is as high as the threshold."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fire, self.fc2 = nn.Linear(64, 48), Straight(), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        mem, out = x.new_zeros(len(x), 48), []
        for _ in range(STEPS):
            mem = 0.7 * mem + self.fc1(x.flatten(1))
            spike = 0.6 * self.fire(mem - 0.6)
            mem = mem - spike
            out.append(self.fc2(spike))
        return torch.stack(out)


NETWORKS: dict[str, Any] = {
    "a loop": Loop,
    "(N,T,*)": BatchFirst,
    "learned thresholds": LearnedNetwork,
    "straight through": StraightNetwork,
}
