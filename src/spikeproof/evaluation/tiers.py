"""The named tiers: which attacks look for a way in, in which order, and which audits look at the attacks.

Cheap attacks first; only what survives goes on. FGSM and the plain PGD see every image, because audits compare them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from spikeproof import parts
from spikeproof.attacks.apgd import APGD
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
from spikeproof.evaluation.audits import Effort
from spikeproof.evaluation.judge import Case
from spikeproof.losses import cross_entropy, dlr, margin
from spikeproof.rules import Surrogate
from spikeproof.rules.atan import ATan
from spikeproof.rules.bptr import BPTR
from spikeproof.rules.hart import HART
from spikeproof.rules.pdsg import PDSG
from spikeproof.rules.rga import RGA
from spikeproof.rules.straight_through import StraightThrough
from spikeproof.rules.triangle import Triangle
from spikeproof.types import Attack, Encoder, Estimator, Loss, Rule, Threat
from spikeproof.victims.victim import Victim

__all__ = ["PREFLIGHT", "TIERS", "Group", "Stage", "Tier", "plain_case", "tier_of"]

Group = Literal["first", "dense twin", "white box", "more effort", "random", "transfer", "black box"]


@dataclass(frozen=True)
class Stage:
    """One attack of the cascade. everyone: run on every image that is right when clean, not on survivors alone."""

    name: str
    group: Group
    case: Case
    everyone: bool = False


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


PREFLIGHT = ("determinism", "same_model")
"""Audits that come first: where one is red, no attack is worth running."""

_SMOKE = (
    "one_step", "unbounded", "along_gradient", "zero_gradients", "random_search", "saturation", "domain", "budget_kept",
)  # fmt: skip
_QUICK = (
    "one_step", "black_box", "unbounded", "along_gradient", "zero_gradients", "false_zeros", "dense_twin", "surrogates",
    "random_search", "optimiser", "saturation", "domain", "budget_kept",
)  # fmt: skip
_STANDARD = (
    "one_step", "black_box", "unbounded", "budgets", "along_gradient", "zero_gradients", "false_zeros", "dense_twin",
    "more_effort", "surrogates", "transfer", "random_search", "flatness", "fidelity", "optimiser", "saturation",
    "domain", "control", "budget_kept", "accounting",
)  # fmt: skip

_WITHOUT_GRADIENT = ("budget_kept",)
"""Audits of a network that can only be asked."""

TIERS = ("smoke", "quick", "standard", "audit")

_BLIND = (RandomCorners, Square)
"""Attacks that never ask for a gradient."""

_ADAPTIVE = re.compile(r" (assg|mdse)( 0\.\d+)?")
"""What the name of a stage says of its estimator."""

_LOG = logging.getLogger(__name__)


def tier_of(name: str, victim: Victim, rule: Rule, threat: Threat, sources: Mapping[str, Victim] | None = None) -> Tier:
    """The tier of that name for this victim and threat; `rule` is that of training. Unknown names: UsageError."""
    if name not in TIERS:
        raise UsageError("a tier", repr(name), valid=TIERS)
    make = _Maker(victim, rule, threat)
    stages = {"smoke": _smoke, "quick": _quick, "standard": _standard, "audit": _audit}[name](make)
    stages += [make.transfer(*source) for source in (sources or {}).items()]
    order: tuple[Group, ...] = (
        "first", "dense twin", "white box", "more effort", "random", "transfer", "black box",
    )  # fmt: skip
    stages = [stage for group in order for stage in stages if stage.group == group]
    if victim.one_gradient:
        stages = _distinct(make, stages)
    kept = _within_reach(victim, stages)
    left_out = tuple(stage.name for stage in stages if stage not in kept)
    audits = {"smoke": _SMOKE, "quick": _QUICK, "standard": _STANDARD, "audit": _STANDARD}[name]
    unfit = {}
    if victim.one_gradient:
        unfit = {"surrogates": "every rule gives this network's own gradient"}
    if not victim.differentiable:
        unfit = {audit: "the network can only be asked" for audit in audits if audit not in _WITHOUT_GRADIENT}
    audits = tuple(audit for audit in audits if audit not in unfit)
    effort = {
        "smoke": Effort(16, 20, 10),
        "quick": Effort(32, 32, 10),
        "standard": Effort(64, 100, 20),
        "audit": Effort(128, 100, 50),
    }[name]
    audits = tuple(dict.fromkeys((*PREFLIGHT, *audits, *(("transfer",) if sources else ()))))
    return Tier(name, tuple(kept), audits, effort, left_out, unfit)


def _distinct(make: _Maker, stages: list[Stage]) -> list[Stage]:
    """The stages for a network whose rules all give one gradient: each attack once, called by what it is."""
    kept: list[Stage] = []
    for stage in stages:
        case, estimator = stage.case, stage.case.estimator
        if isinstance(estimator, SmoothTwin):
            continue
        if isinstance(estimator, ASSG | MDSE | WhiteBox | EOT) and case.source is None:
            filled = isinstance(estimator, WhiteBox) and estimator.fill_zeros
            case = replace(case, estimator=make.estimator(make.rule, fill=filled))
        if not any(case == other.case for other in kept):
            kept.append(replace(stage, name=_ADAPTIVE.sub("", stage.name), case=case))
    return kept


def _within_reach(victim: Victim, stages: list[Stage]) -> list[Stage]:
    """Without the stages whose estimator a wrapped network cannot have; UsageError where they are the plain ones of a
    network that has a gradient."""
    kept = []
    for stage in stages:
        case = stage.case
        supports = (case.source or victim).supports
        if isinstance(case.attack, _BLIND) or supports(case.estimator):
            kept.append(stage)
        elif stage.everyone and victim.differentiable:
            expected = "a network that has a gradient under the rule of training"
            raise UsageError(expected, f"one that cannot have {case.estimator}", mend="another rule")
        else:
            _LOG.warning("%s is left out: the network cannot have %s", stage.name, case.estimator)
    return kept


def plain_case(victim: Victim, rule: Rule, threat: Threat, steps: int = 20) -> Case:
    """PGD on the cross-entropy under the rule of training: what an evaluator without this toolkit would run."""
    return _Maker(victim, rule, threat).case(PGD(steps=steps))


class _Maker:
    """Stages for one victim and threat: how gradients are averaged, and through which slopes the code is crossed."""

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

    def case(
        self,
        attack: Attack,
        estimator: Estimator | None = None,
        loss: Loss = cross_entropy,
        *,
        encoder: Encoder | None = None,
        pooling: str | None = None,
    ) -> Case:
        found = self.estimator(self.rule) if estimator is None else estimator
        return Case(attack, found, loss, self.code if encoder is None else encoder, pooling)

    def under(self, attack: Attack, rule: Rule, loss: Loss = cross_entropy) -> Case:
        return self.case(attack, self.estimator(rule), loss)

    def adaptive(self, mass: float) -> Estimator:
        return ASSG(mass=mass)

    def stable(self, steps: int, restarts: int = 1) -> Attack:
        """SA-PGD where it exists, else APGD."""
        return SAPGD(steps, restarts) if self.linf else APGD(steps, restarts)

    def dense(self, attack: Attack, loss: Loss = margin) -> Stage:
        wide = self.estimator(ATan(alpha=1.0), fill=True)
        pooling: str | None = "tie_spread"
        try:
            self.victim.attacked_through(None, pooling)
        except UsageError as error:  # a max pool of a kind that cannot be replaced
            _LOG.warning("the dense twin keeps the max pools of the network: %s", error)
            pooling = None
        return Stage(f"{_name(attack)} dense twin", "dense twin", self.case(attack, wide, loss, pooling=pooling))

    def secants(self, attack: Attack) -> list[Stage]:
        """Another slope through the phase code."""
        if not isinstance(self.code, Phase):
            return []
        secant = self.case(attack, encoder=replace(self.code, gradient="secant"))
        return [Stage(f"{_name(attack)} secant", "white box", secant)]

    def codes(self, steps: int) -> list[Stage]:
        """The search over codes, for codes of single pixels."""
        if not isinstance(self.code, Phase | Latency) or not self.linf:
            return []
        return [Stage(f"code-search-{steps}", "white box", self.case(CodeSearch(steps=steps), loss=margin))]

    def square(self, queries: int) -> list[Stage]:
        if not self.linf or not self.pixels:
            return []
        return [Stage(f"square-{queries}", "black box", self.case(Square(queries), loss=margin))]

    def asked(self, queries: int) -> list[Stage]:
        """A long black box: Square, and where there is none a gradient estimated by queries."""
        spsa = Stage("pgd-20 spsa", "black box", self.case(PGD(steps=20), SPSA(self.rule), margin))
        return self.square(queries) or [spsa]

    def transfer(self, name: str, source: Victim) -> Stage:
        """Crafted on the source as on a victim of its own: its rule, its noise, its code."""
        rule = source.rule or self.rule
        theirs = _Maker(source, rule, self.threat).case(PGD(steps=50), loss=margin)
        crafted_on = theirs.attacked(source)
        return Stage(f"from {name}", "transfer", replace(theirs, encoder=None, source=crafted_on))

    def first(self, steps: int) -> list[Stage]:
        return [
            Stage("fgsm", "first", self.case(FGSM()), everyone=True),
            Stage(f"pgd-{steps}", "first", self.case(PGD(steps=steps)), everyone=True),
        ]


def _reaching(encoder: Encoder, threat: Threat) -> Encoder | None:
    """The same code with secants that reach as far as the budget; None: the victim's own."""
    if not isinstance(encoder, Phase | Latency):
        return None
    top = (1 << encoder.planes) - 1 if isinstance(encoder, Phase) else 255
    reach = encoder.reach if threat.norm != "Linf" else min(max(round(threat.eps * top), 1), top)
    return replace(encoder, reach=reach)


def _name(attack: Attack) -> str:
    kind = {PGD: "pgd", APGD: "apgd", SAPGD: "sa-pgd", MIFGSM: "mi-fgsm", FAB: "fab"}[type(attack)]
    return f"{kind}-{attack.steps}"  # type: ignore[attr-defined]


def _smoke(make: _Maker) -> list[Stage]:
    return [*make.first(10), Stage("corners-20", "random", make.case(RandomCorners(20)))]


def _quick(make: _Maker) -> list[Stage]:
    few = PGD(steps=20)
    return [
        *make.first(20),
        make.dense(few),
        *(Stage(f"pgd-20 {name}", "white box", make.under(few, rule)) for name, rule in _others(make.rule)[:3]),
        *make.secants(few),
        Stage(f"{_name(make.stable(50))} assg", "white box", make.case(make.stable(50), make.adaptive(0.85))),
        Stage("corners-50", "random", make.case(RandomCorners(50))),
        *make.square(500),
    ]


def _others(rule: Rule) -> list[tuple[str, Rule]]:
    """Rules that are not that of training."""
    every: list[tuple[str, Rule]] = [
        ("atan 2", ATan(alpha=2.0)),
        ("triangle 1", Triangle(alpha=1.0)),
        ("straight-through", StraightThrough()),
        ("atan 10", ATan(alpha=10.0)),
        ("rga", RGA()),
        ("hart 0.5", HART(width=0.5)),
        ("hart 1", HART(width=1.0)),
        ("hart 2", HART(width=2.0)),
        ("pdsg", PDSG()),
        ("bptr", BPTR()),
        ("atan 2 reset", ATan(alpha=2.0, through_reset=True)),
    ]
    return [(name, other) for name, other in every if other != rule]


def _standard(make: _Maker, corners: int = 1000, search: int = 25) -> list[Stage]:
    steps, queries = 100, 5000
    long, stable = APGD(steps), make.stable(steps)
    aimed = APGD(steps, targets=9)
    return [
        *make.first(20),
        Stage(f"apgd-{steps}", "first", make.case(long)),
        make.dense(long, make.ratio),
        Stage(f"{_name(stable)} assg 0.85", "white box", make.case(stable, make.adaptive(0.85))),
        Stage(f"apgd-{steps} {make.ratio.__name__}", "white box", make.case(long, loss=make.ratio)),
        *make.secants(long),
        *(Stage(f"apgd-{steps} {name}", "white box", make.under(long, rule)) for name, rule in _others(make.rule)),
        *(Stage(f"{_name(stable)} assg {m}", "white box", make.case(stable, make.adaptive(m))) for m in (0.8, 0.9)),
        Stage(f"{_name(stable)} assg margin", "white box", make.case(stable, make.adaptive(0.85), margin)),
        Stage("mi-fgsm-20 mdse", "white box", make.case(MIFGSM(20), MDSE(make.rule), margin)),
        *make.codes(search),
        Stage(f"apgd-t-{steps}", "white box", make.case(aimed, loss=make.aimed)),
        Stage(f"apgd-t-{steps} assg", "white box", make.case(aimed, make.adaptive(0.85), make.aimed)),
        Stage(f"fab-t-{steps}", "white box", make.case(FAB(steps=steps, targets=9), make.adaptive(0.85), margin)),
        Stage(f"corners-{corners}", "random", make.case(RandomCorners(corners))),
        *([] if not isinstance(make.rule, Surrogate) else [
            Stage("pgd-50 smooth twin", "transfer", make.case(PGD(steps=50), SmoothTwin(make.rule), margin))
        ]),
        *make.asked(queries),
    ]  # fmt: skip


def _audit(make: _Maker) -> list[Stage]:
    more: Group = "more effort"
    return [
        *_standard(make, 10_000, 100),
        Stage(f"{_name(make.stable(200))} assg", more, make.case(make.stable(200), make.adaptive(0.85), margin)),
        Stage("pgd-40 restarts 10", more, make.case(PGD(steps=40, restarts=10), make.adaptive(0.85), margin)),
        Stage("spsa", "black box", make.case(PGD(steps=50), SPSA(make.rule), margin)),
    ]
