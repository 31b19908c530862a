"""Controls of the toolkit itself: a mask must not raise the number, of which an honest network keeps nothing.

Each mask is a mistake or a trick that has made published numbers too high. An audit that lets one through cannot be
believed on anybody's network (Carlini et al. 2019).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from spikeproof.data import Images
from spikeproof.errors import SpikeproofError
from spikeproof.evaluation.audits.control import Control as PositiveControl
from spikeproof.evaluation.panel import evaluate
from spikeproof.layers.over_time import over_time
from spikeproof.metrics.verdict import NOT_EVALUATED
from spikeproof.models.small_sew_resnet import SmallSEWResNet
from spikeproof.rules.atan import ATan
from spikeproof.rules.rectangle import Rectangle
from spikeproof.store.store import Store
from spikeproof.study.config import cell_from, overlaid
from spikeproof.study.run import Machine, load_images, some_images, trained_victim
from spikeproof.types import Encoder, Rule
from spikeproof.victims.victim import Body, Victim

__all__ = ["CONTROLS", "Control", "Outcome", "PooledResNet", "run_controls"]


class _Behind(nn.Module):
    """A body with something done to its input and its logits."""

    def __init__(
        self,
        body: nn.Module,
        before: Callable[[Tensor], Tensor] = lambda z: z,
        after: Callable[[Tensor], Tensor] = lambda logits: logits,
    ) -> None:
        super().__init__()
        self.body, self.before, self.after = body, before, after
        self.in_channels, self.classes = cast(Body, body).in_channels, cast(Body, body).classes

    def classify(self, z: Tensor, rule: Rule) -> Tensor:
        return self.after(cast(Body, self.body).classify(self.before(z), rule))


@dataclass(frozen=True)
class _Through:
    """An encoder with something done to the pixels first."""

    encoder: Encoder
    change: Callable[[Tensor], Tensor]

    @property
    def stochastic(self) -> bool:
        return self.encoder.stochastic

    def __call__(self, x: Tensor, steps: int, keys: Tensor) -> Tensor:
        return self.encoder(self.change(x), steps, keys)


class _Remembering(nn.Module):
    """Adds a part of the last call's logits to the next, a state that nobody reset: of each image, or their mean."""

    def __init__(self, *, each: bool = False) -> None:
        super().__init__()
        self.each = each
        self.last = torch.zeros(())

    def forward(self, logits: Tensor) -> Tensor:
        out = logits + 0.3 * self.last.to(logits)
        self.last = logits.detach() if self.each else logits.detach().mean(0)
        return out


def _with_body(victim: Victim, **changes: Any) -> Victim:
    return Victim(_Behind(copy.deepcopy(victim.body), **changes), victim.encoder, victim.steps).eval()


def _with_pixels(victim: Victim, change: Callable[[Tensor], Tensor]) -> Victim:
    return Victim(victim.body, _Through(victim.encoder, change), victim.steps).eval()


def _batch_statistics(victim: Victim) -> Victim:
    """Batch-norm that takes the statistics of whatever batch it is in, also in eval mode."""
    masked = copy.deepcopy(victim)
    for module in masked.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = module.running_var = None
    return masked


def _hidden(x: Tensor) -> Tensor:
    """The same pixels; nine tenths of them, the same in every image, get no gradient."""
    if x.requires_grad:
        size = x[0].numel()
        seen = torch.arange(size, device=x.device).view(x.shape[1:]) % 10 == 0
        x = x.clone()
        x.register_hook(lambda g: g * seen)  # type: ignore[no-untyped-call]
    return x


def _noisy(logits: Tensor) -> Tensor:
    return logits + 0.3 * torch.randn_like(logits)


class PooledResNet(SmallSEWResNet):
    """A network that sees the maximum of every 2x2 pixels: three pixels in four have no gradient, and all matter."""

    def classify(self, z: Tensor, rule: Rule) -> Tensor:
        return super().classify(over_time(z, nn.MaxPool2d(2), nn.Upsample(scale_factor=2)), rule)


@dataclass(frozen=True)
class Control:
    """A network of `_NETWORKS` as it is, or with something done to it; `rule` is what its owner evaluates it with."""

    network: str
    masked: bool = True
    change: Callable[[Victim], Victim] = lambda victim: victim
    rule: Rule = field(default_factory=ATan)


_NETWORKS: dict[str, dict[str, Any]] = {
    "max pool, direct code": {"model.pool": "max", "encoder.name": "direct"},
    "avg pool, phase code": {"model.pool": "avg", "encoder.name": "phase"},
    "avg pool, Poisson code": {"model.pool": "avg", "encoder.name": "poisson"},
    "pooled pixels": {"model.name": "spikeproof.study.controls:PooledResNet", "encoder.name": "direct"},
}

_FIRST = "max pool, direct code"

CONTROLS: dict[str, Control] = {
    **{name: Control(name, masked=False) for name in _NETWORKS if name != "pooled pixels"},
    "logits x 1000": Control(_FIRST, change=lambda v: _with_body(v, after=lambda logits: 1000.0 * logits)),
    "surrogate of width 0.05": Control(_FIRST, rule=Rectangle(alpha=20.0)),
    "batch statistics": Control(_FIRST, change=_batch_statistics),
    "quantised input": Control(_FIRST, change=lambda v: _with_pixels(v, lambda x: torch.round(3 * x) / 3)),
    "nine tenths of the gradient hidden": Control(_FIRST, change=lambda v: _with_pixels(v, _hidden)),
    "noise at inference": Control(_FIRST, change=lambda v: _with_body(v, after=_noisy)),
    "detached encoder": Control(_FIRST, change=lambda v: _with_pixels(v, Tensor.detach)),
    "stale state": Control(_FIRST, change=lambda v: _with_body(v, after=_Remembering())),
    "stale state of each image": Control(_FIRST, change=lambda v: _with_body(v, after=_Remembering(each=True))),
    "structurally sparse": Control("pooled pixels"),
}
"""Name -> control. Those that are not masked come first."""

EPS = 0.2
"""L-inf, on digits: where an undefended network keeps nothing."""

_WON = 0.02
"""What a mask may win."""


@dataclass(frozen=True)
class Outcome:
    """One control: whether it is masked, whether it was flagged, and by what.

    flagged: its number is not evaluated. broken: the share of clean successes that fall, None where no number was told.
    most: the same with what the slack foresees. At this budget an undefended network keeps nothing: 99 % or more must
    fall, or be foreseen to. Of a masked one, whose forward is that of an undefended one, no more than two points may be
    left then, unless it is flagged: then the mask has won nothing.
    """

    name: str
    masked: bool
    flagged: bool
    by: str
    broken: float | None = None
    most: float | None = None

    @property
    def passed(self) -> bool:
        least = 1 - _WON if self.masked else PositiveControl.limit
        fell = self.broken if self.most is None else self.most
        return (self.masked and self.flagged) or (fell is not None and fell >= least)


def _trained(network: str, store: Store, machine: Machine, smallest: bool) -> tuple[Victim, Images]:
    base = {
        "name": "control",
        "model": {"name": "small_sew_resnet", "width": 8 if smallest else 16},
        "steps": 6,
        "recipe": {"lr": 0.005, "weight_decay": 0.0, "schedule": "cosine", "epochs": 8 if smallest else 15,
                   "batch_size": 32, "flip": False},
    }  # fmt: skip
    config = cell_from(overlaid(base, _NETWORKS[network]))
    victim, _ = trained_victim(config, store, machine)
    return victim, load_images(config, "test")


def run_controls(
    store: Store, machine: Machine, *, tier: str = "quick", images: int = 128, smallest: bool = False
) -> Iterator[Outcome]:
    """Every control, one after the other; `smallest` trains smaller networks. The networks are kept in the store."""
    for name, control in CONTROLS.items():
        victim, data = _trained(control.network, store, machine, smallest)
        x, y, ids = some_images(data, images).at(torch.arange(min(images, len(data))))
        batch = x.to(machine.torch), y.to(machine.torch), ids
        yield _examined(name, control, control.change(victim), batch, tier)


def _examined(name: str, control: Control, victim: Victim, batch: tuple[Tensor, Tensor, Tensor], tier: str) -> Outcome:
    x, y, ids = batch
    try:
        found = evaluate(victim, x, y, ids=ids, tier=tier, eps=EPS, rule=control.rule)
    except SpikeproofError as error:
        return Outcome(name, control.masked, True, f"refused: {error}")
    flagged = found.verdict.word == NOT_EVALUATED
    fell = None if flagged else found.asr_conditional
    if fell is None:
        return Outcome(name, control.masked, flagged, str(found.verdict))
    slack = 0.0 if found.slack is None else found.slack["high"]
    most = min(1.0, fell.share + slack * len(y) / fell.total)
    return Outcome(name, control.masked, flagged, str(found.verdict), fell.share, most)
