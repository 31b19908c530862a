"""What an audit looks at, and what it finds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor

from spikeproof import parts
from spikeproof.evaluation.judge import Case, outcomes
from spikeproof.evaluation.roles import Role, TierName
from spikeproof.metrics.robustness import clopper_pearson
from spikeproof.rows import AttackRow, AuditFinding, Breaks, Outcome
from spikeproof.tensors import fold
from spikeproof.types import Objective, Threat
from spikeproof.victims.batch import Batch
from spikeproof.victims.scene import Scene
from spikeproof.victims.victim import Victim

__all__ = ["Audit", "AuditResult", "Colour", "Effort", "Subject", "difference", "worse"]

Colour: TypeAlias = Literal["green", "red", "not run"]


@dataclass(frozen=True)
class AuditResult:
    """One audit's answer. value and limit in the audit's own unit, None where not measured; n: images it rests on."""

    code: str
    name: str
    colour: Colour
    value: float | None
    limit: float | None
    n: int
    says: str
    means: str
    mend: str
    breaks: Breaks
    detail: dict[str, object]

    def row(self) -> AuditFinding:
        """Plain data for a file of rows."""
        return {
            "kind": "audit", "code": self.code, "name": self.name, "colour": self.colour, "value": self.value,
            "limit": self.limit, "n": self.n, "says": self.says, "means": self.means, "mend": self.mend,
            "breaks": self.breaks, "detail": self.detail,
        }  # fmt: skip


@dataclass(frozen=True)
class Effort:
    """How much the audits that measure for themselves may spend: images, random draws an image, attack steps."""

    images: int = 32
    draws: int = 50
    steps: int = 10


@dataclass(frozen=True)
class Subject:
    """A victim that is borrowed and in eval mode, the images it gets right when clean, and the panel's rows.

    case: the plain attack of an evaluator who knows nothing of audits: PGD on the cross-entropy under the rule of
    training. control: an undefended victim of the same kind, if there is one. roles: of the stages, by their names;
    cases: of those stages that follow a gradient, or search on from where one led, in the order in which they ran.
    compared: the names of those that differ from an earlier one in what their role is about alone.
    """

    victim: Victim
    batch: Batch
    threat: Threat
    case: Case
    rows: Sequence[AttackRow]
    effort: Effort
    batch_size: int
    control: Victim | None = None
    roles: Mapping[str, Role] = field(default_factory=dict)
    cases: Mapping[str, Case] = field(default_factory=dict)
    compared: Collection[str] = ()

    @property
    def x(self) -> Tensor:
        """The pixels (N,*) of all of the images."""
        return self.batch.x

    def batches(self, images: int | None = None, *, at_least: int = 1) -> Iterator[Batch]:
        """Up to `images` of them (None: the effort's), a fair choice that does not depend on their order."""
        wanted = min(self.effort.images if images is None else images, len(self.x))
        # Sorted by the hash that an image owns, so that the choice is the same in every order and shard.
        index = torch.argsort(fold(self.batch.keys, "audit"), stable=True)[:wanted]
        return self.batch.take(index).split(max(self.batch_size, at_least))

    def attacked(self, purpose: str, case: Case, threat: Threat, images: int | None = None) -> list[Outcome]:
        """The outcomes of one case on some images."""
        return [row for b in self.batches(images) for row in outcomes(self.victim, b, purpose, case, threat)]

    def unlimited(self) -> Threat:
        """The threat whose ball holds the whole box."""
        surface = parts.surface(self.threat.surface)
        size = surface.start(self.victim, self.x[:1], self.batch.keys[:1]).shape[1:].numel()
        full = surface.widest(self.threat.norm, size)
        return replace(self.threat, eps=full)

    def scene(self, batch: Batch, purpose: str) -> tuple[Scene, Objective]:
        """The scene of the plain case on one batch, and its objective."""
        keys = fold(batch.keys, purpose)
        scene = Scene(self.case.attacked(self.victim), batch.x, batch.y, keys, self.threat.surface)
        return scene, scene.objective(self.case.loss)

    def gradient(self, batch: Batch, purpose: str) -> Tensor:
        """Of the plain case's loss at the clean point (B,*)."""
        scene, f = self.scene(batch, purpose)
        return self.case.estimator(f, scene.start, self.case.estimator.init(scene.start), 0)[1]

    def ran(self, *roles: Role) -> list[AttackRow]:
        """The panel's rows of the stages in these roles."""
        return [row for row in self.rows if self.roles[row["attack"]] in roles]

    def all_fell(self) -> bool:
        """Whether attacks were run, and no image stands."""
        return bool(self.rows) and {row["image"] for row in self.rows} == {r["image"] for r in self.rows if r["fooled"]}

    def fresh(self, *roles: Role) -> set[int]:
        """Images that the stages in these roles attacked and broke."""
        return {row["image"] for row in self.ran(*roles) if _fresh(row)}

    def broken(self, *roles: Role) -> tuple[int, int]:
        """How many images the stages in these roles attacked and broke that the earlier stage left with which each is
        compared, and images right when clean. No such stage: (0, 0)."""
        rows = [row for row in self.ran(*roles) if row["attack"] in self.compared]
        return (len({row["image"] for row in rows if _fresh(row)}), len(self.x)) if rows else (0, 0)


def _fresh(row: AttackRow) -> bool:
    return row["fooled"] and not row.get("skipped")


def difference(a: Tensor, b: Tensor) -> float:
    """The largest difference of two tensors, of the size of the second."""
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-12))


def worse(worst: float, new: float) -> float:
    """The larger, and NaN where one is: every comparison with NaN is false."""
    return worst if new <= worst else new


@dataclass(frozen=True)
class Audit(ABC):
    """One diagnostic of gradient masking, or of the evaluation itself; its fields are its limits.

    code: its name in the literature's list here, D1..D22; breaks: what a red one makes of the number, 'nothing' where
    it explains the gap alone. tier: the lowest that runs it, as those above do; given: the argument of `evaluate` that
    brings it into every tier. preflight: it comes first, and where it is red no attack is worth running.
    asks_gradient: whether it means nothing on a network that can only be asked.
    """

    code: ClassVar[str]
    title: ClassVar[str]
    means: ClassVar[str]
    mend: ClassVar[str]
    breaks: ClassVar[Breaks] = "nothing"
    tier: ClassVar[TierName]
    given: ClassVar[Literal["", "sources", "control"]] = ""
    preflight: ClassVar[bool] = False
    asks_gradient: ClassVar[bool] = True

    def unfit(self, victim: Victim) -> str:
        """Why it means nothing on this network, which has a gradient; '' where it does mean something."""
        return ""

    def unfit_for(self, threat: Threat) -> str:
        """Why it means nothing under this threat; '' where it does mean something."""
        return ""

    @abstractmethod
    def __call__(self, subject: Subject) -> AuditResult:
        """Look, and say what was found."""

    def found(
        self, red: bool, says: str, *, value: float | None, limit: float | None, n: int, **detail: object
    ) -> AuditResult:
        rounded = None if value is None else float(f"{value:.6g}")
        colour: Colour = "red" if red else "green"
        return AuditResult(
            self.code, self.title, colour, rounded, limit, n, says, self.means, self.mend, self.breaks, detail
        )

    def absent(self, why: str) -> AuditResult:
        """Not run, and why."""
        return AuditResult(self.code, self.title, "not run", None, None, 0, why, self.means, self.mend, self.breaks, {})

    def share(self, count: int, total: int, limit: float, says: str, **detail: object) -> AuditResult:
        """Red where a share of images lies above the limit by its interval; any image at all where the limit is 0."""
        if total == 0:
            return self.found(False, "no image is right when clean", value=None, limit=limit, n=0, **detail)
        interval = clopper_pearson(count, total)
        red = count > 0 if limit == 0 else interval.low > limit
        return self.found(red, f"{says}: {count} of {total}", value=count / total, limit=limit, n=total, **detail)
