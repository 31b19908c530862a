"""Affine classifiers as victims: z = W x + b on images (B,1,4,4), where every attack has a closed form to reach."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spikeproof.encoders.direct import Direct
from spikeproof.tensors import image_keys, normal, uniform
from spikeproof.types import Loss, Objective, Rule
from spikeproof.victims.scene import Scene
from spikeproof.victims.victim import Victim

__all__ = ["Affine", "D", "images", "objective", "scene"]

D = 16


class Affine(nn.Module):
    """weights (K,D), biases (K,), float64, drawn from a seed."""

    in_channels = 1

    def __init__(self, classes: int, seed: int = 0) -> None:
        super().__init__()
        keys = image_keys(seed, torch.arange(2))
        self.classes = classes
        self.w = normal(keys[:1], (classes, D))[0].double()
        self.b = normal(keys[1:], (classes,))[0].double() / 4 - self.w.sum(1) / 2  # near 0 on a grey image

    def classify(self, z: Tensor, rule: Rule) -> Tensor:
        return z.mean(0).flatten(1) @ self.w.t() + self.b


def images(count: int, *, inside: bool, seed: int = 1) -> Tensor:
    """Pixels (B,1,4,4) float64, at least 0.3 from the ends of the range, or many at the very ends."""
    x = uniform(image_keys(seed, torch.arange(count)), (1, 4, 4)).double()
    return 0.3 + 0.4 * x if inside else (1.4 * x - 0.2).clamp(0, 1)


def scene(body: Affine, x: Tensor, keys: Tensor | None = None) -> Scene:
    """The images with what the victim says of them as their labels; keys (B,), or one each."""
    victim = Victim(body, Direct(), steps=1).eval()
    y = body.classify(x[None], None).argmax(1)  # type: ignore[arg-type]
    return Scene(victim, x, y, image_keys(0, torch.arange(len(x))) if keys is None else keys, "pixels")


def objective(where: Scene, loss: Loss) -> Objective:
    return where.objective(loss)
