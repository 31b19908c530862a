"""DSD: the dominant singular component of every weight's gradient is taken out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from spikeproof.defences._added import Added
from spikeproof.errors import UsageError
from spikeproof.types import Knob

__all__ = ["DSD"]


@dataclass(frozen=True, kw_only=True)
class DSD(Added):
    """G <- G - share * s u v^T, with (s, u, v) the largest singular value of G and its vectors, G the gradient of each
    parameter of two axes or more, flattened to outputs x rest.

    "Dominant singular deflation" (ICLR 2026) has no option; it is share 1, and smaller shares are our own, so that
    there is a way from the vanilla training (0) to it. The component comes from the eigenvectors of the smaller of G
    G^T and G^T G, not from a full decomposition. With share 1 a gradient of rank one vanishes, as that of a layer with
    one output.
    """

    KNOB: ClassVar[Knob] = Knob("share", (0.2, 0.4, 0.6, 0.8, 1.0))

    share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise UsageError("share in [0,1]", self.share)

    @torch.no_grad()
    def after_backward(self, victim: nn.Module) -> None:
        super().after_backward(victim)
        for parameter in victim.parameters():
            if parameter.grad is not None and parameter.dim() >= 2:
                g = parameter.grad.flatten(1)
                parameter.grad.sub_(self.share * _dominant(g).view_as(parameter.grad))


def _dominant(g: Tensor) -> Tensor:
    """The part s u v^T of a matrix (m,n) that belongs to its largest singular value."""
    if g.shape[0] > g.shape[1]:
        return _dominant(g.T).T
    u: Tensor = torch.linalg.eigh((g @ g.T).double()).eigenvectors[:, -1:].to(g.dtype)
    return u @ (u.T @ g)
