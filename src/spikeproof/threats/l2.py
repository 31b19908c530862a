"""||x - x0||_2 <= eps, inside the box of the surface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spikeproof.tensors import normal, per_image, uniform
from spikeproof.threats._ball import Ball

__all__ = ["L2"]


@dataclass(frozen=True)
class L2(Ball):
    """||x - x0||_2 <= eps and x in [0,1]."""

    norm: ClassVar[str] = "L2"

    def project(self, x: Tensor, x0: Tensor) -> Tensor:
        """Scale into the ball, then clip to the box: admissible, and the field's standard; not the nearest point where
        both bind. Clipping towards a box that contains x0 only shortens the way, so the ball still holds."""
        scale = self.eps / self.distance(x, x0).clamp(min=self.eps).clamp(min=1e-30)
        return (x0 + (x - x0) * per_image(x, scale)).clamp(*self.box)

    def ascend(self, gradient: Tensor) -> Tensor:
        """g / ||g||; an all-zero gradient stays zero."""
        # In units of its largest entry first: the square of a small float32 gradient is 0.
        largest = gradient.flatten(1).abs().amax(1).clamp(min=torch.finfo(gradient.dtype).tiny)
        g = gradient / per_image(gradient, largest)
        return g / per_image(g, g.flatten(1).norm(dim=1).clamp(min=1e-30))

    def distance(self, x: Tensor, x0: Tensor) -> Tensor:
        """(B,)."""
        return (x - x0).flatten(1).square().sum(1).sqrt()

    def sample(self, x0: Tensor, keys: Tensor) -> Tensor:
        """A Gaussian direction at a radius uniform in [0, eps], then clipped to the box."""
        direction = self.ascend(normal(keys, x0.shape[1:]))
        return self.project(x0 + direction * per_image(x0, self.eps * uniform(keys, ())), x0)
