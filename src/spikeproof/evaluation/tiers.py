"""The named tiers: which attacks look for a way in, in which order, and which audits look at the attacks.

Cheap attacks first; only what survives goes on. FGSM and the plain PGD see every image, because audits compare them.
The stages of each tier stand in one table each, `_smoke` to `_audit`, and under threats of whole events in
`event_tiers.py`; which audits it runs, the audits say themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from spikeproof.attacks.apgd import APGD
from spikeproof.attacks.fab import FAB
from spikeproof.attacks.mi_fgsm import MIFGSM
from spikeproof.attacks.pgd import PGD
from spikeproof.attacks.random_corners import RandomCorners
from spikeproof.attacks.top_events import TopEvents
from spikeproof.errors import UsageError
from spikeproof.estimators.mdse import MDSE
from spikeproof.estimators.smooth_twin import SmoothTwin
from spikeproof.evaluation.audits import Effort, every
from spikeproof.evaluation.event_tiers import event_stages
from spikeproof.evaluation.roles import GROUPS, TIERS
from spikeproof.evaluation.stages import Maker, Stage
from spikeproof.losses import margin
from spikeproof.rules.pdsg import PDSG
from spikeproof.types import EventThreat, Rule, Threat
from spikeproof.victims.victim import Victim

__all__ = ["TIERS", "Tier", "tier_of"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tier:
    """What a name stands for: stages in order, audits before and after them, and what audits may spend.

    left_out: the names of stages whose estimator this network cannot have; unfit: audits that mean nothing on it, with
    the reason.
    """

    name: str
    stages: tuple[Stage, ...]
    audits: tuple[str, ...]
    effort: Effort
    left_out: tuple[str, ...] = ()
    unfit: Mapping[str, str] = field(default_factory=dict)

    @property
    def compared(self) -> frozenset[str]:
        """The names of the stages that an earlier one can be compared with."""
        pairs = ((stage, other) for i, stage in enumerate(self.stages) for other in self.stages[:i])
        return frozenset(stage.name for stage, other in pairs if stage.compares_with(other))


def tier_of(
    name: str,
    victim: Victim,
    rule: Rule,
    threat: Threat,
    sources: Mapping[str, Victim] | None = None,
    control: Victim | None = None,
) -> Tier:
    """The tier of that name for this victim and threat; `rule` is that of training. Unknown names: UsageError."""
    if name not in _TIERS:
        raise UsageError("a tier", repr(name), valid=TIERS)
    make = Maker(victim, rule, threat)
    stages = event_stages(name, make) if isinstance(threat, EventThreat) else _TIERS[name].stages(make)
    plain = next(stage for stage in stages if stage.role == "plain")
    assert isinstance(plain.case.attack, PGD | TopEvents)
    stages += [make.transfer(*source, plain.case.attack) for source in (sources or {}).items()]
    cascade = list(GROUPS)
    stages.sort(key=lambda stage: cascade.index(stage.role))
    if victim.one_gradient:
        stages = [make.own(stage) for stage in stages if not isinstance(stage.case.estimator, SmoothTwin)]
    stages = _distinct(stages)
    kept = _within_reach(victim, stages)
    left_out = tuple(stage.name for stage in stages if stage not in kept)
    given = {"sources": bool(sources), "control": control is not None, "": False}
    audits, unfit = _audits(name, victim, threat, given)
    return Tier(name, tuple(kept), audits, _TIERS[name].effort, left_out, unfit)


def _audits(
    tier: str, victim: Victim, threat: Threat, given: Mapping[str, bool]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """What runs: preflight, the tier's own by their codes, and what something was given for; and what is unfit."""
    known = every()
    own = [name for name, audit in known.items() if tier in TIERS[TIERS.index(audit.tier) :]]
    unfit = {name: why for name, audit in known.items() if (why := audit.unfit(victim) or audit.unfit_for(threat))}
    if not victim.differentiable:
        unfit |= {name: "the network can only be asked" for name in own if known[name].asks_gradient}
    fit = sorted((name for name in own if name not in unfit), key=lambda name: not known[name].preflight)
    brought = [name for name, audit in known.items() if given[audit.given]]
    return tuple(dict.fromkeys([*fit, *brought])), unfit


def _distinct(stages: list[Stage]) -> list[Stage]:
    """Each attack once: under one gradient, or none, stages are the same that differ elsewhere."""
    kept: list[Stage] = []
    for stage in stages:
        if not any(stage.case == other.case for other in kept):
            kept.append(stage)
    return kept


def _within_reach(victim: Victim, stages: list[Stage]) -> list[Stage]:
    """Without the stages whose estimator a wrapped network cannot have; UsageError where they are the plain ones of a
    network that has a gradient."""
    kept = []
    for stage in stages:
        case = stage.case
        supports = (case.source or victim).supports
        if not stage.asks_gradient or supports(case.estimator):
            kept.append(stage)
        elif stage.everyone and victim.differentiable:
            expected = "a network that has a gradient under the rule of training"
            raise UsageError(expected, f"one that cannot have {case.estimator}", mend="another rule")
        else:
            _LOG.warning("%s is left out: the network cannot have %s", stage.name, case.estimator)
    return kept


def _smoke(on: Maker) -> list[Stage]:
    return [*on.first(PGD(steps=10)), on.stage("random", RandomCorners(20))]


def _quick(on: Maker) -> list[Stage]:
    few = PGD(steps=20)
    return [
        *on.first(few),
        on.dense(few),
        on.stage("random", RandomCorners(20)),
        on.search(4000, steps=50, word="pdsg", patience=0.9),
    ]


def _standard(on: Maker) -> list[Stage]:
    few, long = PGD(steps=20), APGD(100)
    return [
        *on.first(few),
        on.dense(few),
        on.stage("long", long, margin, variant="margin"),
        on.stage("white box", long, margin, by=on.estimator(PDSG()), estimator="pdsg", variant="margin"),
        on.stage("random", RandomCorners(50)),
        on.search(3000, steps=50, word="pdsg", patience=2.0),
        on.search(8000, steps=50, word="sigmoid 4", patience=6.0, population=96),
        on.search(8000, steps=50, patience=4.0, population=64),
    ]


def _audit(on: Maker) -> list[Stage]:
    long, stable, aimed = APGD(100), on.stable(100), APGD(100, targets=9)
    return [
        *_standard(on),
        on.dense(long, on.ratio),
        on.stage("white box", long),
        on.stage("white box", long, on.ratio, variant=on.ratio.__name__),
        *on.secants(long),
        *on.others(long),
        on.adaptive("white box", stable, mass=0.8, estimator="assg 0.8", variant="margin"),
        on.adaptive("white box", stable, variant="margin"),
        on.adaptive("white box", stable, mass=0.9, estimator="assg 0.9"),
        on.stage("white box", MIFGSM(20), margin, by=MDSE(on.rule), estimator="mdse"),
        *on.codes(100),
        on.stage("white box", aimed, on.aimed),
        on.adaptive("white box", aimed, on.aimed),
        on.adaptive("white box", FAB(steps=100, targets=3), margin, estimator=""),
        on.stage("random", RandomCorners(200)),
        *on.smooth(PGD(steps=20)),
        *on.asked(2000),
        on.queried(PGD(steps=20), called="spsa"),
        on.adaptive("more effort", on.stable(200), variant="margin"),
        on.stage("more effort", PGD(steps=40, restarts=10), margin, variant="restarts 10"),
        on.search(5000, steps=100),
    ]


class _Plan(NamedTuple):
    """The stages of a tier, in the order in which those of one role run, and what its audits may spend.

    A tier is to have a budget, forwards and backwards an image on average: 400, 2,000 and 20,000 from `quick` on. Where
    no image falls and every search is at a standstill, the stages take 399, 1,679 and 16,628 on a linear network of two
    classes. An image that seems about to fall may be given some 4,200, 19,800 and 34,800. On noise each draw counts,
    behind a gradient and behind a query.
    """

    stages: Callable[[Maker], list[Stage]]
    effort: Effort


_TIERS: dict[str, _Plan] = {
    "smoke": _Plan(_smoke, Effort(images=16, draws=20, steps=10)),
    "quick": _Plan(_quick, Effort(images=32, draws=32, steps=10)),
    "standard": _Plan(_standard, Effort(images=64, draws=100, steps=20)),
    "audit": _Plan(_audit, Effort(images=128, draws=100, steps=50)),
}
