"""A network that has an adversarial example by construction: its read-out, fitted anew for each image.

After Zimmermann, Brendel, Tramer and Carlini, "Increasing confidence in adversarial robustness evaluations" (NeurIPS
2022). All before the last linear layer stays as it is; what the features of one point of the ball have that those of
the image and of the points around it have not, becomes the other class. The fit is our own, in closed form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from spikeproof.asking import rounds
from spikeproof.errors import SpikeproofError
from spikeproof.evaluation.audits._evidence import difference
from spikeproof.evaluation.plain import furthest
from spikeproof.tensors import exact, fold, normal
from spikeproof.types import Rule, Threat
from spikeproof.victims.batch import Batch
from spikeproof.victims.scene import COMMON_DRAWS, Scene
from spikeproof.victims.taps import tapped
from spikeproof.victims.victim import Victim, borrowed

__all__ = ["Binarised", "Planted", "Readout", "fitted", "plant"]

_INNER = 0.95
"""Of the radius: points of the image's own class lie so far inside, at most."""

_RIDGE = 1.0
"""In units of the features' mean variance. With far less the read-out trusts what hardly varies around the image, and
asks for a point that no attack finds; with far more it cannot tell the point from others where features are few."""

_LEVEL = 0.25
"""The boundary lies so far on the way from the nearest of the image's points, corners among them, to the one that is to
be found: chance hardly gets there, and an attack need not hit that very point, where spikes are a matter of luck."""

_ROUNDING = 1e-4
"""Relative; a layer that is not linear is off by far more."""


@dataclass(frozen=True, eq=False)
class Readout:
    """Two logits (B,2) from features (B,F), each image by its own: 0 and weight (B,F) times the features + bias (B,).

    Above 0 is the other class. The range from the image's mean to the point that is to be found is 1.
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        score = (features * self.weight).sum(1) + self.bias
        return torch.stack([torch.zeros_like(score), score], 1)

    def of(self, index: Tensor) -> Readout:
        """Those of some images: index (n,) int64."""
        return Readout(self.weight[index], self.bias[index])


class Binarised(Scene):
    """A scene of two classes, on a victim without its read-out: each image has the label 0 and its own read-out."""

    def __init__(
        self, victim: Victim, batch: Batch, surface: str, readout: Readout, *, survivors: bool = False
    ) -> None:
        super().__init__(victim, batch.x, torch.zeros_like(batch.y), batch.keys, surface, survivors=survivors)
        self.readout = readout

    def of(self, index: Tensor) -> Self:
        part = super().of(index)
        part.readout = self.readout.of(index)
        return part

    def logits(self, point: Tensor, rule: Rule, keys: Tensor) -> Tensor:
        """Point (B,*) on the surface -> finite logits (B,2)."""
        return self.readout(super().logits(point, rule, keys))


@dataclass(frozen=True, eq=False)
class Planted:
    """Images with a known adversarial example each: the victim without its read-out, the batch, the name of the
    surface, the examples (B,*), the read-outs, and for which images these do what they should, (B,) bool."""

    victim: Victim
    batch: Batch
    surface: str
    hidden: Tensor
    readout: Readout
    decided: Tensor

    def scene(self, index: Tensor, purpose: str, victim: Victim | None = None, *, survivors: bool = False) -> Binarised:
        """Of some images, (n,) int64, with keys for a purpose; on another form of the victim, where one is given."""
        batch, readout = self.batch.take(index).keyed(purpose), self.readout.of(index)
        return Binarised(victim or self.victim, batch, self.surface, readout, survivors=survivors)


def plant(victim: Victim, batch: Batch, threat: Threat, points: int) -> Planted:
    """A borrowed victim's images, with read-outs that call one random corner of the ball by another name.

    points >= 1: how many that corner is told from, the image among them; half of them lie in the ball, half are corners
    too, so that chance hardly ever finds the other class. Decided is an image where the verdicts on itself and on its
    corner are as they should be. Raises SpikeproofError where the victim has no linear read-out.
    """
    headless, layer = beheaded(victim, batch)
    whole, before = (Scene(v, batch.x, batch.y, batch.keys, threat.surface) for v in (victim, headless))
    x0 = whole.start

    def corner(purpose: str) -> Tensor:
        return furthest(threat, normal(fold(batch.keys, purpose), x0.shape[1:]).to(x0), x0)

    def own(draw: int) -> Tensor:
        if draw % 2:
            return corner(f"corner {draw}")
        return threat.scaled(_INNER).sample(x0, fold(batch.keys, f"inner {draw}")) if draw else x0

    hidden = corner("hidden")
    other, ours = features(before, hidden), _several(before, own, points)
    _refuse_another_readout(layer, features(whole, hidden) - features(whole, x0), other - ours[0])
    readout, separable = fitted(other, ours)
    judge = Binarised(headless, batch, threat.surface, readout)
    clean, found = (judge.judge(point, "planted").predicted == 1 for point in (x0, hidden))
    return Planted(headless, batch, threat.surface, hidden, readout, separable & found & ~clean)


def beheaded(victim: Victim, batch: Batch) -> tuple[Victim, nn.Linear]:
    """A copy that ends where its last linear layer begins, so that its logits are what goes into it, and that layer.

    Raises SpikeproofError where there is none, or where what comes after it takes no more than the victim's classes.
    """
    copy = borrowed(victim)
    layers = dict(copy.body.named_modules())
    with torch.no_grad(), tapped(copy, exact) as (_, taps):
        copy(batch.x[:1], exact, batch.keys[:1])
    linear = [(tap.site, layer) for tap in taps if isinstance(layer := layers.get(tap.site), nn.Linear)]
    if not linear:
        raise SpikeproofError("a linear layer that the logits come from", "none in this network")
    (name, layer), body = linear[-1], _of_two_classes(copy)
    parent, _, child = name.rpartition(".")
    body.get_submodule(parent).add_module(child, nn.Identity().eval())
    try:
        for asks_gradient in (False, True):  # a network may go another way for its gradient
            with torch.set_grad_enabled(asks_gradient):
                copy(batch.x[:1].clone().requires_grad_(asks_gradient), exact, batch.keys[:1])
    except RuntimeError as error:
        raise SpikeproofError(f"a network that runs without its layer {name!r}", error) from error
    return copy, layer


def _of_two_classes(victim: Victim) -> nn.Module:
    """Its body, which is told of them: attacks ask how many there are."""
    body: Any = victim.body
    body.classes = 2
    return victim.body


@torch.no_grad()
def features(scene: Scene, point: Tensor) -> Tensor:
    """What the scene's victim says of points (B,*): (B,F), the mean over a few draws where it draws."""
    draws = COMMON_DRAWS if scene.stochastic else 1
    return torch.stack([scene.logits(point, exact, fold(scene.keys, f"features {k}")) for k in range(draws)]).mean(0)


def _several(scene: Scene, point: Callable[[int], Tensor], count: int) -> Tensor:
    """The features of `count` points of each image, which `point` makes (B,*): (count,B,F)."""
    found: list[Tensor] = []
    for some, owner in rounds(count, scene.start):
        points = torch.cat([point(number) for number in some])
        found += torch.split(features(scene.of(owner), points), len(scene.start))
    return torch.stack(found)


def _refuse_another_readout(layer: nn.Linear, logits: Tensor, before: Tensor) -> None:
    """Differences of logits (B,K), and of what goes into the layer (B,F): the same but for the layer, or something
    else comes after it than a mean or a sum over time."""
    expected = before.to(layer.weight) @ layer.weight.T if before.shape[1:] == (layer.in_features,) else None
    if expected is None or expected.shape != logits.shape or not difference(expected, logits) <= _ROUNDING:
        raise SpikeproofError("logits that are a linear layer's, averaged or summed over time", "something else")


def fitted(found: Tensor, own: Tensor) -> tuple[Readout, Tensor]:
    """Features of the points to be found (B,F), and of the image and its points (n,B,F) -> the read-outs, and which of
    them separate the two (B,).

    Fisher's direction w = (S + ridge)^-1 d, where d leads from the mean of the image's points to the other and S is
    their scatter: along it the other stands out most. With more features than points it is the same by n x n matrices.
    """
    own = own.transpose(0, 1).double()
    centre = own.mean(1)
    spread, d = own - centre[:, None], found.double() - centre
    gram = spread @ spread.mT
    ridge = (_RIDGE * gram.diagonal(dim1=1, dim2=2).sum(1) / d.shape[1]).clamp(min=torch.finfo(d.dtype).tiny)
    eye = torch.eye(len(gram[0]), dtype=d.dtype, device=d.device)
    # By Cholesky: MKL's LU of several matrices on several threads does not come back from some two hundred rows on.
    root, _ = torch.linalg.cholesky_ex(gram + ridge[:, None, None] * eye)
    within = torch.cholesky_solve(spread @ d[:, :, None], root)
    w = d - (spread.mT @ within)[:, :, 0]
    farthest, height = (spread @ w[:, :, None])[:, :, 0].amax(1), (w * d).sum(1)
    gap = height - farthest
    separable = gap > _ROUNDING * height.clamp(min=torch.finfo(d.dtype).tiny)
    height = torch.where(separable, height, 1.0)
    bias = -((w * centre).sum(1) + farthest + _LEVEL * gap) / height
    return Readout((w / height[:, None]).to(found), bias.to(found)), separable
