"""One attack of a cascade, and how it is made for a victim and a threat; `tiers.py` says which of them are run."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Protocol

from spikeproof import parts
from spikeproof.attacks.apgd import APGD
from spikeproof.attacks.code_search import CodeSearch
from spikeproof.attacks.fgsm import FGSM
from spikeproof.attacks.genetic_search import GeneticSearch
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
from spikeproof.evaluation.judge import Case
from spikeproof.evaluation.plain import plain_attack
from spikeproof.evaluation.roles import GROUPS, Group, Role
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

__all__ = ["Maker", "Stage", "plain_case"]

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


class Maker:
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

    def search(
        self, queries: int, steps: int, word: str = "dense twin", patience: float | None = None, population: int = 32
    ) -> Stage:
        """A population of points, from where APGD under a wide surrogate led, or Square where there is no gradient."""
        start = self.stage("black box", Square(2 * steps) if self.linf else RandomCorners(2 * steps), margin)
        for wide in (word, *_WIDE):
            led = self.dense(APGD(steps), margin, wide)
            if self.victim.supports(led.case.estimator):
                start = led
                break
        if self.victim.one_gradient:
            start = self.own(start)
        to_the_end = "" if patience else ", to the end"
        asked = GeneticSearch(queries, population, patience=patience)
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
        theirs = Maker(source, source.rule or self.rule, self.threat)
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


def plain_case(victim: Victim, rule: Rule, threat: Threat, steps: int = 20) -> Case:
    """Many steps on the cross-entropy under the rule of training: what an evaluator without this toolkit would run."""
    return Maker(victim, rule, threat).stage("plain", plain_attack(threat, steps)).case
