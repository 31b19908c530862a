"""SR: sparsity regularisation, a penalty on the input gradient's l1 norm by a finite difference."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from spikeproof.types import Craft, Rule, UsageError, VictimLike, refusal

__all__ = ["SR"]


@dataclass(frozen=True)
class SR:
    """CE + weight * mean over the batch of ((f(x + h v) - f(x)) / h)^2, v = sign(grad f(x)), about ||grad f||_1^2.

    Liu et al., "Enhancing Adversarial Robustness in SNNs with Sparse Gradients" (ICML 2024): f = sigmoid(z_y - z_j), j
    the runner-up at x, kept for both points; h = 0.01. v is a constant: no second derivative is taken. Departures from
    the released code: x + h v is clipped to [0,1], as pixels outside do not exist, and f is a sigmoid, not a ratio of
    exponentials, which overflows.
    """

    weight: float = 1.0
    h: float = 0.01

    def __post_init__(self) -> None:
        if not self.weight >= 0 or not 0 < self.h < 1:
            raise UsageError(refusal("weight >= 0 and h in (0,1)", f"weight={self.weight}, h={self.h}"))

    def __call__(self, victim: VictimLike, x: Tensor, y: Tensor, rule: Rule, keys: Tensor, craft: Craft) -> Tensor:
        x = x.detach().requires_grad_()
        logits = victim(x, rule, keys)
        runner_up = logits.detach().scatter(1, y[:, None], float("-inf")).argmax(1)

        def chance(z: Tensor) -> Tensor:
            return torch.sigmoid(z.gather(1, y[:, None]) - z.gather(1, runner_up[:, None]))[:, 0]

        here = chance(logits)
        (gradient,) = torch.autograd.grad(here.sum(), x, retain_graph=True)
        moved = (x.detach() + self.h * gradient.sign()).clamp(0.0, 1.0)
        slope = (chance(victim(moved, rule, keys)) - here) / self.h
        return F.cross_entropy(logits, y) + self.weight * slope.square().mean()
