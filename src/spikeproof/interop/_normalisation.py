"""What the first layer of a network sees of the pixels, and whether a normalisation in front of it is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spikeproof.errors import SpikeproofError
from spikeproof.interop._behaviour import Trial
from spikeproof.interop._borrowing import called, hooked
from spikeproof.metrics.robustness import clopper_pearson

__all__ = ["normalisation_of"]

_OUTSIDE: dict[str, tuple[Sequence[float], Sequence[float]] | None] = {
    "their own": None,
    "mean 0.5, deviation 0.5": ((0.5,), (0.5,)),
    "ImageNet's": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CIFAR-10's": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "MNIST's": ((0.1307,), (0.3081,)),
}
"""Normalisations that users put in front of a network, tried where labels are given."""

_GAINS = (1.5, 2.0, 3.0, 5.0)
"""Of the pixels alone: what a network gains by them is no normalisation that it misses."""


def normalisation_of(trial: Trial, labels: Tensor | None, *, timed: bool) -> str | tuple[str, str]:
    """What there is to say, or a warning with its mend; SpikeproofError where one is missing beyond doubt.

    timed: whether the network fires over time. A larger input then makes one of few steps fire more, whatever it was
    trained on, so that nothing follows but a warning.
    """
    seen = _first_input(trial)
    if seen is not None and (float(seen[1].min()) < -1e-6 or float(seen[1].max()) > 1 + 1e-6):
        low, high = (float(v) for v in torch.aminmax(seen[1]))
        return f"inside: {seen[0]} gets values from {low:.3g} to {high:.3g} for pixels in [0,1]"
    if labels is None:
        return (
            "none is seen inside the network",
            "where it was trained on normalised images, make that its first layer; give images with labels to see",
        )
    right = _right(trial, trial.images, labels)
    for name, constants in _OUTSIDE.items():
        other = _right(trial, _normalised(trial.images, constants), labels)
        if not _better(other, right):
            continue
        got = [100 * float(share.double().mean()) for share in (right, other)]
        says = f"{got[0]:.0f} % right on them, and {got[1]:.0f} % after {name} normalisation"
        if timed or any(not _better(other, _right(trial, gain * trial.images, labels)) for gain in _GAINS):
            return (
                f"{says}: normalised in training, or its inputs are too weak for so few steps",
                "more steps, as many as in training; where training normalised, make that the network's first layer",
            )
        mend = "make the normalisation of training the first layer of the network"
        raise SpikeproofError("a network that takes pixels in [0,1]", says, mend=mend)
    return "none inside, and none that is usual makes it better on the images given"


def _better(other: Tensor, right: Tensor) -> bool:
    """By no chance (the sign test), and by as much as matters."""
    gained, lost = int((other & ~right).sum()), int((right & ~other).sum())
    return gained - lost >= 0.05 * len(right) and clopper_pearson(gained, gained + lost).low > 0.5


def _right(trial: Trial, images: Tensor, labels: Tensor) -> Tensor:
    """Which images (N,C,H,W) of any range the network is right on, (N,) bool."""
    z = images[None].expand(trial.victim.steps, *images.shape).contiguous()
    return trial.drawn(z).argmax(1) == labels


def _first_input(trial: Trial) -> tuple[str, Tensor] | None:
    """Name and first input of the first convolution or linear layer that is called."""
    seen: list[tuple[str, Tensor]] = []

    def keep(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if not seen and isinstance(module, nn.Conv2d | nn.Linear) and inputs:
            seen.append((called(name, module), inputs[0]))

    with hooked(trial.network, keep):
        trial.drawn(trial.code)
    return seen[0] if seen else None


def _normalised(images: Tensor, constants: tuple[Sequence[float], Sequence[float]] | None) -> Tensor:
    if constants is None:
        deviation, mean = torch.std_mean(images, (0, 2, 3), keepdim=True)
        return (images - mean) / deviation.clamp(min=1e-6)
    mean, deviation = (torch.tensor(c, device=images.device).view(1, -1, 1, 1) for c in constants)
    if mean.shape[1] not in (1, images.shape[1]):
        return images
    return (images - mean) / deviation
