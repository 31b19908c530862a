"""The named tiers: which attacks look for a way in, in which order, and which audits look at the attacks.

Cheap attacks first; only what survives goes on. FGSM and the plain PGD see every image, because audits compare them.
The stages of each tier stand in one table each, `_smoke` to `_audit`; which audits it runs, the audits say themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, NamedTuple, Protocol

from spikeproof import parts
from spikeproof.attacks.apgd import APGD
from spikeproof.attacks.block_search import BlockSearch
from spikeproof.attacks.code_search import CodeSearch
from spikeproof.attacks.fab import FAB
from spikeproof.attacks.fgsm import FGSM
from spikeproof.attacks.mi_fgsm import MIFGSM
from spikeproof.attacks.pgd import PGD
from spikeproof.attacks.random_corners import RandomCorners
from spikeproof.attacks.sa_pgd import SAPGD
from spikeproof.attacks.square import Square
from spikeproof.encoders.latency import Latency
from spikeproof.encoders.phase import Phase
from spikeproof.errors import UsageError
from spikeproof.estimators.assg import ASSG
from spikeproof.estimators.eot import EOT
from spikeproof.estimators.mdse import MDSE
from spikeproof.estimators.smooth_twin import SmoothTwin
from spikeproof.estimators.spsa import SPSA
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluation.audits import Effort, every
from spikeproof.evaluation.judge import Case
from spikeproof.evaluation.roles import GROUPS, TIERS, Group, Role
from spikeproof.losses import cross_entropy, dlr, margin
from spikeproof.rules import Surrogate
from spikeproof.rules.atan import ATan
from spikeproof.rules.bptr import BPTR
from spikeproof.rules.hart import HART
from spikeproof.rules.pdsg import PDSG
from spikeproof.rules.rga import RGA
from spikeproof.rules.sigmoid import Sigmoid
from spikeproof.rules.straight_through import StraightThrough
from spikeproof.rules.triangle import Triangle
from spikeproof.types import Attack, Encoder, Estimator, Loss, Rule, Threat
from spikeproof.victims.victim import Victim

__all__ = ["TIERS", "Stage", "Tier", "plain_case", "tier_of"]

_LOG = logging.getLogger(__name__)


class _Staged(Attack, Protocol):
    """An attack as a stage needs it: it says what it is called, with its number, and whether it asks for a gradient."""

    asks_gradient: ClassVar[bool]

    @property
    def label(self) -> str: ...


@dataclass(frozen=True)
class Stage:
    """One attack of the cascade, and what it is there for.

    attack: what it is called, with its number; estimator: where its gradient comes from, '' for the rule of training;
    variant: what else is particular. Its name follows from these. asks_gradient: whether it needs one at all. begins:
    the attack whose starts it has, where that is called otherwise here.
    """

    role: Role
    case: Case
    attack: str
    estimator: str = ""
    variant: str = ""
    asks_gradient: bool = True
    begins: str = ""

    @property
    def key(self) -> str:
        """By what its starts are drawn: stages of one attack begin at the same points."""
        return self.begins or self.attack

    @property
    def name(self) -> str:
        return " ".join(word for word in (self.attack, self.estimator, self.variant) if word)

    @property
    def group(self) -> Group:
        return GROUPS[self.role]

    @property
    def everyone(self) -> bool:
        """Whether it is run on every image that is right when clean, not on survivors alone."""
        return self.role in ("one step", "plain")

    def compares_with(self, other: Stage) -> bool:
        """Whether it differs from another stage in what its role is about, and in nothing else."""
        mine = {name: getattr(other.case, name) for name in _ABOUT.get(self.role, ())}
        return bool(mine) and other.asks_gradient and replace(self.case, **mine) == other.case


_ABOUT: dict[Role, tuple[str, ...]] = {
    "dense twin": ("estimator", "pooling"),
    "white box": ("estimator", "encoder"),
    "more effort": ("attack",),
    "random": ("attack", "estimator", "loss"),
    "transfer": ("source", "estimator", "encoder"),
    "black box": ("attack", "estimator", "pooling"),
}
"""What a stage of a role is compared in: the fields of its case in which it may differ from an earlier stage, so that
what it breaks and the earlier did not is owed to these. Stages of one attack begin at the same points."""


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
    make = _Maker(victim, rule, threat)
    stages = _TIERS[name].stages(make)
    plain = next(stage for stage in stages if stage.role == "plain")
    assert isinstance(plain.case.attack, PGD)
    stages += [make.transfer(*source, plain.case.attack) for source in (sources or {}).items()]
    cascade = list(GROUPS)
    stages.sort(key=lambda stage: cascade.index(stage.role))
    if victim.one_gradient:
        stages = [make.own(stage) for stage in stages if not isinstance(stage.case.estimator, SmoothTwin)]
    stages = _distinct(stages)
    kept = _within_reach(victim, stages)
    left_out = tuple(stage.name for stage in stages if stage not in kept)
    given = {"sources": bool(sources), "control": control is not None, "": False}
    audits, unfit = _audits(name, victim, given)
    return Tier(name, tuple(kept), audits, _TIERS[name].effort, left_out, unfit)


def _audits(tier: str, victim: Victim, given: Mapping[str, bool]) -> tuple[tuple[str, ...], dict[str, str]]:
    """What runs: preflight, the tier's own by their codes, and what something was given for; and what is unfit."""
    known = every()
    own = [name for name, audit in known.items() if tier in TIERS[TIERS.index(audit.tier) :]]
    unfit = {name: why for name, audit in known.items() if (why := audit.unfit(victim))}
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


def plain_case(victim: Victim, rule: Rule, threat: Threat, steps: int = 20) -> Case:
    """PGD on the cross-entropy under the rule of training: what an evaluator without this toolkit would run."""
    return _Maker(victim, rule, threat).stage("plain", PGD(steps=steps)).case


class _Maker:
    """Stages for one victim and threat: how gradients are averaged, and through which slopes the code is crossed.

    What a victim or a threat cannot have is no stage, so that the tables below need no conditions.
    """

    def __init__(self, victim: Victim, rule: Rule, threat: Threat) -> None:
        self.victim, self.rule, self.threat = victim, rule, threat
        self.linf = threat.norm == "Linf"
        self.pixels = parts.surface(threat.surface).before_encoder
        self.noisy = victim.stochastic and self.pixels
        self.code = _reaching(victim.encoder, threat) if self.pixels else None
        # Without three classes DLR does not exist, without four its targeted form.
        self.ratio: Loss = dlr if victim.classes >= 3 else margin
        self.aimed: Loss = dlr if victim.classes >= 4 else margin

    def estimator(self, rule: Rule, *, fill: bool = False) -> Estimator:
        return EOT(rule) if self.noisy else WhiteBox(rule, fill_zeros=fill)

    def stage(
        self,
        role: Role,
        attack: _Staged,
        loss: Loss = cross_entropy,
        *,
        by: Estimator | None = None,
        estimator: str = "",
        variant: str = "",
        called: str = "",
        encoder: Encoder | None = None,
        pooling: str | None = None,
    ) -> Stage:
        """by: where its gradient comes from, None for the rule of training, and `estimator` what that is called."""
        found = self.estimator(self.rule) if by is None else by
        case = Case(attack, found, loss, self.code if encoder is None else encoder, pooling)
        return Stage(role, case, called or attack.label, estimator, variant, attack.asks_gradient, attack.label)

    def own(self, stage: Stage) -> Stage:
        """The same under the one gradient that the network has, called by what it is."""
        case = self._own(stage.case)
        return stage if case == stage.case else replace(stage, case=case, estimator="")

    def _own(self, case: Case) -> Case:
        estimator = case.estimator
        if isinstance(estimator, ASSG | MDSE | WhiteBox | EOT) and case.source is None:
            filled = isinstance(estimator, WhiteBox) and estimator.fill_zeros
            case = replace(case, estimator=self.estimator(self.rule, fill=filled))
        return case if case.after is None else replace(case, after=self._own(case.after))

    def first(self, plain: PGD) -> list[Stage]:
        return [self.stage("one step", FGSM()), self.stage("plain", plain)]

    def dense(self, attack: _Staged, loss: Loss = cross_entropy, word: str = "dense twin") -> Stage:
        """A wide surrogate that leaves no zero, and max pools that spread their gradient over ties."""
        by = self.estimator(_WIDE[word], fill=True)
        estimator, variant = ("", word) if word == "dense twin" else (word, "")
        return self.stage("dense twin", attack, loss, by=by, estimator=estimator, variant=variant, pooling=self.spread)

    @cached_property
    def spread(self) -> str | None:
        """The backward of max pools that spreads over ties; None where a pool's cannot be replaced."""
        try:
            self.victim.attacked_through(None, "tie_spread")
        except UsageError as error:
            _LOG.warning("the dense twin keeps the max pools of the network: %s", error)
            return None
        return "tie_spread"

    def search(self, queries: int, steps: int, word: str = "dense twin", patience: float | None = 1.0) -> Stage:
        """Blocks of pixels, from where APGD under a wide surrogate led, or Square where there is no gradient."""
        start = self.stage("black box", Square(2 * steps) if self.linf else RandomCorners(2 * steps), margin)
        for wide in (word, *_WIDE):
            led = self.dense(APGD(steps), margin, wide)
            if self.victim.supports(led.case.estimator):
                start = led
                break
        if self.victim.one_gradient:
            start = self.own(start)
        to_the_end = "" if patience else ", to the end"
        asked = BlockSearch(queries, patience=patience)
        stage = self.stage("search", asked, margin, variant=f"after {start.name}{to_the_end}")
        return replace(stage, case=replace(stage.case, after=start.case))

    def others(self, attack: _Staged) -> list[Stage]:
        """On the margin, under rules that are not that of training."""
        return [
            self.stage("white box", attack, margin, by=self.estimator(rule), estimator=word, variant="margin")
            for word, rule in _RULES.items()
            if rule != self.rule
        ]

    def adaptive(
        self, role: Role, attack: _Staged, loss: Loss = margin, *, mass: float = 0.85,
        estimator: str = "assg", variant: str = "",
    ) -> Stage:  # fmt: skip
        return self.stage(role, attack, loss, by=ASSG(mass=mass), estimator=estimator, variant=variant)

    def stable(self, steps: int) -> _Staged:
        """SA-PGD where it exists, else APGD."""
        return SAPGD(steps) if self.linf else APGD(steps)

    def secants(self, attack: _Staged) -> list[Stage]:
        """Another slope through the phase code."""
        if not isinstance(self.code, Phase):
            return []
        encoder = replace(self.code, gradient="secant")
        return [self.stage("white box", attack, margin, variant="secant margin", encoder=encoder)]

    def codes(self, steps: int) -> list[Stage]:
        """The search over codes, for codes of single pixels."""
        if not isinstance(self.code, Phase | Latency) or not self.linf:
            return []
        return [self.stage("white box", CodeSearch(steps=steps), margin)]

    def smooth(self, attack: _Staged) -> list[Stage]:
        """The smooth twin of a surrogate."""
        if not isinstance(self.rule, Surrogate):
            return []
        return [self.stage("transfer", attack, by=SmoothTwin(self.rule), estimator="smooth twin")]

    def square(self, queries: int) -> list[Stage]:
        if not self.linf or not self.pixels:
            return []
        return [self.stage("black box", Square(queries), margin)]

    def asked(self, queries: int) -> list[Stage]:
        """A long black box: Square, and where there is none a gradient estimated by queries."""
        return self.square(queries) or [self.queried(PGD(steps=20), estimator="spsa")]

    def queried(self, attack: _Staged, *, estimator: str = "", called: str = "") -> Stage:
        return self.stage("black box", attack, margin, by=SPSA(self.rule), estimator=estimator, called=called)

    def transfer(self, name: str, source: Victim, attack: _Staged) -> Stage:
        """Crafted on the source as on a victim of its own: its rule, its noise, its code."""
        theirs = _Maker(source, source.rule or self.rule, self.threat)
        stage = theirs.stage("transfer", attack, called="from", variant=name)
        crafted_on = stage.case.attacked(source)
        return replace(stage, case=replace(stage.case, encoder=None, source=crafted_on))


def _reaching(encoder: Encoder, threat: Threat) -> Encoder | None:
    """The same code with secants that reach as far as the budget; None: the victim's own."""
    if not isinstance(encoder, Phase | Latency):
        return None
    top = (1 << encoder.planes) - 1 if isinstance(encoder, Phase) else 255
    reach = encoder.reach if threat.norm != "Linf" else min(max(round(threat.eps * top), 1), top)
    return replace(encoder, reach=reach)


_WIDE: dict[str, Rule] = {"dense twin": ATan(alpha=1.0), "sigmoid 4": Sigmoid(alpha=4.0), "pdsg": PDSG()}
"""Surrogates behind pools that spread, by the word for each: they broke most in `benchmarks/cascade.py`."""

_RULES: dict[str, Rule] = {
    "atan 2": ATan(alpha=2.0),
    "triangle 1": Triangle(alpha=1.0),
    "straight-through": StraightThrough(),
    "atan 10": ATan(alpha=10.0),
    "rga": RGA(),
    "hart 0.5": HART(width=0.5),
    "hart 1": HART(width=1.0),
    "hart 2": HART(width=2.0),
    "pdsg": PDSG(),
    "bptr": BPTR(),
    "atan 2 reset": ATan(alpha=2.0, through_reset=True),
}
"""The rules that stages try beside that of training, by the word for each."""


def _smoke(on: _Maker) -> list[Stage]:
    return [*on.first(PGD(steps=10)), on.stage("random", RandomCorners(20))]


def _quick(on: _Maker) -> list[Stage]:
    few = PGD(steps=20)
    return [
        *on.first(few),
        on.dense(few),
        on.stage("random", RandomCorners(20)),
        on.search(4000, steps=50, word="pdsg"),
    ]


def _standard(on: _Maker) -> list[Stage]:
    few, long = PGD(steps=20), APGD(100)
    return [
        *on.first(few),
        on.dense(few),
        on.stage("long", long, margin, variant="margin"),
        on.stage("white box", long, margin, by=on.estimator(PDSG()), estimator="pdsg", variant="margin"),
        on.stage("random", RandomCorners(50)),
        on.search(6000, steps=100, patience=2.0),
        on.search(6000, steps=100, word="pdsg", patience=2.0),
        on.search(6000, steps=100, word="sigmoid 4", patience=2.0),
    ]


def _audit(on: _Maker) -> list[Stage]:
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
        on.search(5000, steps=100, patience=None),
    ]


class _Plan(NamedTuple):
    """The stages of a tier, in the order in which those of one role run, and what its audits may spend.

    A tier is to have a budget, forwards and backwards an image on average: 400, 2,000 and 20,000 from `quick` on. Where
    no image falls and every search is at a standstill, the stages take 312, 1,462 and 16,411 on a linear network of two
    classes, and 352 and 1,582 on one of ten with a phase code, where `audit` was not measured. An image that seems
    about to fall may be given up to 4,210, 19,200 and 34,100. On noise each draw counts, behind a gradient and behind a
    query.
    """

    stages: Callable[[_Maker], list[Stage]]
    effort: Effort


_TIERS: dict[str, _Plan] = {
    "smoke": _Plan(_smoke, Effort(images=16, draws=20, steps=10)),
    "quick": _Plan(_quick, Effort(images=32, draws=32, steps=10)),
    "standard": _Plan(_standard, Effort(images=64, draws=100, steps=20)),
    "audit": _Plan(_audit, Effort(images=128, draws=100, steps=50)),
}
