"""Controls of the toolkit itself: a mask must not raise the number, of which an honest network keeps nothing.

Each mask is a mistake or a trick that has made published numbers too high. An audit that lets one through cannot be
believed on anybody's network (Carlini et al. 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from spikeproof.data import Images
from spikeproof.data.digits import Digits
from spikeproof.errors import SpikeproofError
from spikeproof.evaluation.audits.control import Control as PositiveControl
from spikeproof.evaluation.panel import evaluate
from spikeproof.interop.wrap import wrap
from spikeproof.metrics.verdict import NOT_EVALUATED, POWER
from spikeproof.rules.atan import ATan
from spikeproof.rules.rectangle import Rectangle
from spikeproof.store.store import Store
from spikeproof.study import masks
from spikeproof.study.config import cell_from, overlaid
from spikeproof.study.control_networks import plain
from spikeproof.study.run import Machine, load_images, some_images, trained_victim
from spikeproof.types import Rule
from spikeproof.victims.victim import Victim

__all__ = ["CONTROLS", "Control", "Outcome", "run_controls"]


@dataclass(frozen=True)
class Control:
    """A network of `_NETWORKS` as it is, or with something done to it; `rule` is what its owner evaluates it with.

    beside: another of them, whose gradient it shows. defended: trained so that it may keep some of its answers.
    """

    network: str
    masked: bool = True
    change: Callable[[Victim], Victim] = lambda victim: victim
    rule: Rule | None = field(default_factory=ATan)
    beside: str = ""
    defended: bool = False


_FIRST, _OTHER, _DEFENDED = "max pool, direct code", "max pool, direct code, another seed", "adversarially trained"

_NETWORKS: dict[str, dict[str, Any]] = {
    _FIRST: {"model.pool": "max", "encoder.name": "direct"},
    "avg pool, phase code": {"model.pool": "avg", "encoder.name": "phase"},
    "avg pool, Poisson code": {"model.pool": "avg", "encoder.name": "poisson"},
    _DEFENDED: {
        "model.pool": "avg", "encoder.name": "direct", "defence.name": "adversarial",
        "training_threat": {"name": "linf", "eps": 0.15}, "training_attack": {"name": "pgd", "steps": 3},
    },
    _OTHER: {"model.pool": "max", "encoder.name": "direct", "seed": 1},
    "pooled pixels": {"model.name": "spikeproof.study.control_networks:PooledResNet", "encoder.name": "direct"},
}  # fmt: skip

_HONEST_PLAIN = "plain torch"

_PLAIN: dict[str, tuple[float, float]] = {
    _HONEST_PLAIN: (4.0, 1.0),
    "plain torch, surrogate x 1e-12": (4.0, 1e-12),
    "plain torch, surrogate of sharpness 100": (100.0, 1.0),
    "plain torch, surrogate of sharpness 1e5": (1e5, 1.0),
}
"""Networks that are wrapped: how sharp their surrogate is and by what it is scaled, after a training with the first."""


def _first(mask: Callable[[Tensor], Tensor]) -> Control:
    """The first network behind something done to its pixels."""
    return Control(_FIRST, change=lambda victim: masks.with_pixels(victim, mask))


CONTROLS: dict[str, Control] = {
    _FIRST: Control(_FIRST, masked=False),
    "avg pool, phase code": Control("avg pool, phase code", masked=False),
    "avg pool, Poisson code": Control("avg pool, Poisson code", masked=False),
    _DEFENDED: Control(_DEFENDED, masked=False, defended=True),
    _HONEST_PLAIN: Control(_HONEST_PLAIN, masked=False, rule=None),
    "logits x 1000": Control(_FIRST, change=lambda v: masks.with_body(v, lambda logits: 1000.0 * logits)),
    "surrogate of width 0.05": Control(_FIRST, rule=Rectangle(alpha=20.0)),
    "batch statistics": Control(_FIRST, change=masks.batch_statistics),
    "quantised input": _first(lambda x: torch.round(3 * x) / 3),
    "nine tenths of the gradient hidden": _first(masks.hidden),
    "a third of the gradient turned round": _first(masks.turned),
    "signs of the gradient from a hash": _first(masks.hashed),
    "gradient of another network": Control(_FIRST, beside=_OTHER),
    "noise at inference": Control(_FIRST, change=lambda v: masks.with_body(v, masks.noisy)),
    "noise seeded by the image": _first(masks.seeded_noise),
    "detached encoder": _first(Tensor.detach),
    "stale state": Control(_FIRST, change=masks.remembering),
    "stale state of each image": Control(_FIRST, change=lambda v: masks.remembering(v, each=True)),
    "structurally sparse": Control("pooled pixels"),
    **{name: Control(name, rule=None) for name in _PLAIN if name != _HONEST_PLAIN},
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
    left then, unless it is flagged: then the mask has won nothing. An honest one that is defended may keep its images,
    and is not to be flagged. power: what D21 says of the attacks on it, '' where it was not run.
    """

    name: str
    masked: bool
    flagged: bool
    by: str
    broken: float | None = None
    most: float | None = None
    defended: bool = False
    power: str = ""

    @property
    def passed(self) -> bool:
        if self.defended:
            return not self.flagged and self.broken is not None
        least = 1 - _WON if self.masked else PositiveControl.limit
        fell = self.broken if self.most is None else self.most
        return (self.masked and self.flagged) or (fell is not None and fell >= least)


def _trained(network: str, store: Store, machine: Machine, smallest: bool) -> tuple[Victim, Images]:
    base: dict[str, Any] = {
        "name": "control",
        "model": {"name": "small_sew_resnet", "width": 8 if smallest else 16},
        "steps": 6,
        "recipe": {"lr": 0.005, "weight_decay": 0.0, "schedule": "cosine", "epochs": 8 if smallest else 15,
                   "batch_size": 32, "flip": False},
    }  # fmt: skip
    if network in _PLAIN:
        data = Digits().load("test")
        net = plain(base["recipe"]["epochs"], *_PLAIN[network]).to(machine.torch)
        return wrap(net, data.at(torch.arange(2))[0].to(machine.torch)), data
    config = cell_from(overlaid(base, _NETWORKS[network]))
    victim, _ = trained_victim(config, store, machine)
    return victim, load_images(config, "test")


def run_controls(
    store: Store, machine: Machine, *, tier: str = "quick", images: int = 128, smallest: bool = False
) -> Iterator[Outcome]:
    """Every control, one after the other; `smallest` trains smaller networks. All but plain ones stay in the store."""
    for name, control in CONTROLS.items():
        victim, data = _trained(control.network, store, machine, smallest)
        if control.beside:
            victim = masks.gradient_of(victim, _trained(control.beside, store, machine, smallest)[0])
        x, y, ids = some_images(data, images).at(torch.arange(min(images, len(data))))
        batch = x.to(machine.torch), y.to(machine.torch), ids
        yield _examined(name, control, control.change(victim), batch, tier)


def _examined(name: str, control: Control, victim: Victim, batch: tuple[Tensor, Tensor, Tensor], tier: str) -> Outcome:
    x, y, ids = batch
    try:
        found = evaluate(victim, x, y, ids=ids, tier=tier, eps=EPS, rule=control.rule)
    except SpikeproofError as error:
        return Outcome(name, control.masked, True, f"refused: {error}", defended=control.defended)
    flagged = found.verdict.word == NOT_EVALUATED
    fell = None if flagged else found.asr_conditional
    power = "".join(row["says"] for row in found.findings if row["code"] == POWER and row["value"] is not None)
    if fell is None:
        return Outcome(name, control.masked, flagged, str(found.verdict), defended=control.defended, power=power)
    slack = 0.0 if found.slack is None else found.slack["high"]
    most = min(1.0, fell.share + slack * len(y) / fell.total)
    return Outcome(name, control.masked, flagged, str(found.verdict), fell.share, most, control.defended, power)
