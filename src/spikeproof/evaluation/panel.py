"""The panel: every attack of a tier on what the ones before left standing, and the audits of the attacks.

The headline is the mean over images of the worst case over everything that was run. `evaluate` is the one call.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from tqdm import tqdm

from spikeproof import parts
from spikeproof.errors import SpikeproofError, Unfinite, UsageError
from spikeproof.evaluation.audits import AuditResult, Limits, Subject, every
from spikeproof.evaluation.examination import Examination
from spikeproof.evaluation.judge import clean_verdict, gradient_fields, head_of, outcomes, short, spared
from spikeproof.evaluation.plain import plain_attack
from spikeproof.evaluation.stages import Stage, plain_case
from spikeproof.evaluation.tiers import Tier, tier_of
from spikeproof.metrics.robustness import clopper_pearson
from spikeproof.metrics.verdict import UNSETTLED, verdict_of
from spikeproof.rows import AttackHead, AttackRow, AuditRow, Breaks, Mark, Outcome, Row, of_kind
from spikeproof.rules.atan import ATan
from spikeproof.tensors import exact
from spikeproof.types import Rule, Threat
from spikeproof.victims.batch import Batch
from spikeproof.victims.door import in_own_modes, victim_of
from spikeproof.victims.outputs import refuse_probabilities
from spikeproof.victims.victim import Victim, borrowed

__all__ = ["Asked", "Hands", "Panel", "Piece", "evaluate", "refuse_whole_box", "report_of"]


def _chunks(index: Tensor, size: int) -> list[Tensor]:
    return [index[i : i + size] for i in range(0, len(index), size)]


def _unattempted(stages: Sequence[str], differentiable: bool) -> list[AuditResult]:
    """One finding that names the attacks of a tier that this network could not be given; none where there are none.

    Red where no gradient was there at all: what only queries were tried on may be broken by whoever has the weights.
    """
    if not stages:
        return []
    says = f"the network cannot have the estimators of {', '.join(stages)}"
    means, mend = "Attacks of this tier were left out.", "Wrap a network whose neurons are known."
    colour: Literal["not run", "red"] = "not run"
    breaks: Breaks = "nothing"
    if not differentiable:
        says = f"a network that can only be asked: without {', '.join(stages)}"
        means, mend = "An upper bound, against attackers who only ask.", "Wrap the module itself."
        colour, breaks = "red", UNSETTLED
    return [
        AuditResult(
            "attacks", "attacks left out", colour, None, None, 0, says, means, mend, breaks,
            {"stages": list(stages)},
        )
    ]  # fmt: skip


Piece: TypeAlias = Callable[[], Sequence[Row]]
"""Rows that are made, and written down, at once."""

Hands: TypeAlias = Callable[[int, Sequence[Piece]], Iterator[list[Row]]]
"""(number of the first, pieces that know nothing of one another) -> the rows of each, in order."""


def alone(first: int, pieces: Sequence[Piece]) -> Iterator[list[Row]]:
    """One piece after the other, here."""
    return (list(piece()) for piece in pieces)


@dataclass(frozen=True)
class Asked:
    """What is asked of a panel: a tier, a threat, the rule of training, and what `evaluate` says of the others."""

    tier: str
    threat: Threat
    eps_text: str
    rule: Rule
    batch_size: int = 128
    evaluation: str = "panel"
    sources: Mapping[str, Victim] = field(default_factory=dict)
    control: Victim | None = None
    limits: Limits = field(default_factory=dict)
    survivors: bool = True


def _check(victim: Victim, batch: Batch, asked: Asked) -> None:
    if asked.batch_size < 1 or not len(batch):
        raise UsageError("batch_size >= 1 and one image or more", f"{asked.batch_size}, {len(batch)} images")
    if (different := len(set(batch.ids.tolist()))) != len(batch):
        got = f"{len(batch)}, {different} of them different"
        raise UsageError(f"{len(batch)} different ids, one for each image", got)
    others = {**asked.sources, **({} if asked.control is None else {"control": asked.control})}
    for name, other in others.items():
        if (other.classes, other.in_channels) != (victim.classes, victim.in_channels):
            got = f"{name!r} of {other.classes} classes and {other.in_channels} channels"
            raise UsageError(f"{victim.classes} classes and {victim.in_channels} channels", got)
    for what, tensor in {"labels": batch.y, **dict(victim.named_parameters())}.items():
        if tensor.device != batch.x.device:
            raise UsageError(f"{what} on the device of the images, {batch.x.device}", tensor.device)


class Panel:
    """One victim, its images, and what is asked. `run` yields the rows piece by piece, so that a long panel can be
    written down as it grows, and goes on from the pieces that an earlier run wrote.

    victim: in eval mode; it is left exactly as it was. batch: all of the images, no two of one id.
    """

    def __init__(self, victim: Victim, batch: Batch, asked: Asked) -> None:
        _warn_of_rounding(batch.x.device)
        _check(victim, batch, asked)
        self.victim, self.batch = borrowed(victim), batch.keyed(asked.evaluation)
        self.threat, self.batch_size, self.audits = asked.threat, asked.batch_size, every(asked.limits)
        self.control = None if asked.control is None else borrowed(asked.control)
        sources = {name: borrowed(source) for name, source in asked.sources.items()}
        of = tier_of(asked.tier, self.victim, asked.rule, asked.threat, sources, self.control)
        kept = [replace(stage, case=stage.case.going_on(asked.survivors)) for stage in of.stages]
        self.tier: Tier = replace(of, stages=tuple(kept))
        self.plain = replace(plain_case(self.victim, asked.rule, asked.threat), survivors=asked.survivors)
        self.head: AttackHead = {
            **head_of("panel", asked.evaluation, asked.threat, asked.eps_text, ""),
            "tier": asked.tier,
        }
        self.mark: Mark = {
            "evaluation": asked.evaluation,
            "eps": self.head["eps"],
            "eps_text": asked.eps_text,
            "tier": asked.tier,
        }
        self.clean_answers, self.clean_margins = self._clean()

    def _clean(self) -> tuple[Tensor, Tensor]:
        answers, margins = [], []
        for index in _chunks(torch.arange(len(self.batch)), self.batch_size):
            try:
                found = clean_verdict(self.victim, self.batch.take(index))
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                mend = "one call must leave nothing for the next: reset all state, or use spikeproof.wrap"
                raise SpikeproofError("a network that takes batches of any size", error, mend=mend) from error
            answers.append(found.predicted)
            margins.append(found.margin)
        return torch.cat(answers), torch.cat(margins)

    def watched(
        self, finished: Sequence[list[Row]] = (), hands: Hands = alone, *, progress: bool = True
    ) -> Iterator[list[Row]]:
        """`run` with a bar that names the attack or audit that has just been done."""
        total = len(self.tier.audits) + len(self.tier.stages)
        name: str | None = None
        with tqdm(total=total, desc=f"panel {self.mark['eps_text']}", unit="part", disable=not progress) as bar:
            for piece in self.run(finished, hands):
                here = str(piece[-1].get("attack", piece[-1].get("name")))
                bar.update(int(here != name))
                bar.set_postfix_str(name := here)
                yield piece

    def run(self, finished: Sequence[list[Row]] = (), hands: Hands = alone) -> Iterator[list[Row]]:
        """Yields every piece that is not among `finished`, in an order that never changes. hands: who makes the pieces
        of a round."""
        done, rows, first = list(finished), list[Row](), 0
        some = slice(0, max(2, min(64, self.batch_size)))
        with torch.no_grad():
            refuse_probabilities(self.victim(self.batch.x[some], exact, self.batch.keys[some]))
        for pieces in self._rounds(rows):
            known = done[first : first + len(pieces)]
            for piece in known:
                rows.extend(piece)
            for piece in hands(first + len(known), pieces[len(known) :]):
                rows.extend(piece)
                yield piece
            first += len(pieces)

    def _rounds(self, rows: Sequence[Row]) -> Iterator[list[Piece]]:
        """Pieces that know nothing of one another, round after round; rows: those of all rounds before, which grow
        while this is read. No piece is ever empty: what is written down is found again by counting."""
        preflight = [name for name in self.tier.audits if self.audits[name].preflight]
        yield [partial(self._audited, name, []) for name in preflight]
        if any(row["colour"] == "red" for row in of_kind(rows, AuditRow)):
            return  # what an attack finds on such a network means nothing
        for stage in self.tier.stages:
            standing = self._standing(stage, rows)
            spared = [partial(self._passed, stage, standing, rows)] if len(standing) < len(self.batch) else []
            chunks = _chunks(standing, self.batch_size)
            yield [*spared, *(partial(self._attacked, stage, index) for index in chunks)]
        attacks = of_kind(rows, AttackRow)
        yield [partial(self._audited, name, attacks) for name in self.tier.audits if name not in preflight]
        if len(self.tier.audits) < len(self.audits) or self.tier.left_out:
            yield [self._left_out]

    def _right(self) -> Tensor:
        return (self.clean_answers == self.batch.y).nonzero()[:, 0].cpu()

    def _standing(self, stage: Stage, rows: Sequence[Row]) -> Tensor:
        """Positions that a stage attacks."""
        right = self._right()
        if stage.everyone:
            return right
        fooled = {row["image"] for row in rows if row["kind"] == "attack" and row["fooled"]}
        keep = [position for position in right.tolist() if int(self.batch.ids[position]) not in fooled]
        return torch.tensor(keep, dtype=torch.int64)

    def _passed(self, stage: Stage, standing: Tensor, rows: Sequence[Row]) -> list[AttackRow]:
        """Rows of the images that a stage need not attack: fooled before, or wrong when clean."""
        last = {row["image"]: row for row in rows if row["kind"] == "attack" and row["fooled"]}
        attacked = set(standing.tolist())
        found = []
        for position in range(len(self.batch)):
            if position not in attacked:
                image = int(self.batch.ids[position])
                clean = int(self.clean_answers[position]), short(self.clean_margins[position : position + 1])[0]
                before = (last[image]["attacked"], last[image]["margin"]) if image in last else clean
                found.append(self._row(stage, position, spared(*before)))
        return found

    def _row(self, stage: Stage, position: int, outcome: Outcome) -> AttackRow:
        return {
            **self.head,
            "attack": stage.name,
            "group": stage.group,
            "image": int(self.batch.ids[position]),
            "label": int(self.batch.y[position]),
            "predicted": int(self.clean_answers[position]),
            **outcome,
        }

    def _attacked(self, stage: Stage, index: Tensor) -> list[AttackRow]:
        asked = self.victim, self.batch.take(index), stage.key, stage.case, self.threat
        found = outcomes(*asked)
        if stage.everyone:
            found = [{**a, **b} for a, b in zip(found, gradient_fields(*asked), strict=True)]
        return [self._row(stage, position, one) for position, one in zip(index.tolist(), found, strict=True)]

    def _left_out(self) -> list[AuditRow]:
        """What was not run, said to be so: a verdict rests on what was. First the attacks, all in one row."""
        rest = sorted(name for name in self.audits if name not in self.tier.audits)
        other = f"not in the tier '{self.tier.name}'"
        found = [self.audits[name].absent(self.tier.unfit.get(name, other)) for name in rest]
        attacks = _unattempted(self.tier.left_out, self.victim.differentiable)
        return [self._marked(finding) for finding in [*attacks, *found]]

    def _marked(self, result: AuditResult) -> AuditRow:
        return {**result.row(), **self.mark}

    def _audited(self, name: str, attacks: Sequence[AttackRow]) -> list[AuditRow]:
        audit = self.audits[name]
        right = self._right()
        if not len(right):
            return [self._marked(audit.absent("no image is right when clean"))]
        subject = Subject(
            self.victim,
            self.batch.take(right),
            self.threat,
            replace(self.plain, attack=plain_attack(self.threat, self.tier.effort.steps)),
            attacks,
            self.tier.effort,
            self.batch_size,
            self.control,
            {stage.name: stage.role for stage in self.tier.stages},
            {stage.name: stage.case for stage in self.tier.stages if stage.asks_gradient or stage.role == "search"},
            self.tier.compared,
        )
        return [self._marked(audit(subject))]


def _warn_of_rounding(device: torch.device) -> None:
    """On a GPU torch may convolve in TF32, which keeps 10 bits: on another batch or kernel other spikes."""
    conv = getattr(torch.backends.cudnn, "conv", None)  # what a convolution does; torch's types do not know of it
    if device.type == "cuda" and conv is not None and conv.fp32_precision == "tf32":
        warnings.warn(
            "convolutions run in TF32 here, where a network and the twin that attacks see round differently; for the "
            "figures of full precision: torch.backends.cudnn.allow_tf32 = False",
            stacklevel=4,
        )


def refuse_whole_box(threat: Threat, said: object) -> None:
    """UsageError for a ball in L-inf that is all of [0,1], as an eps in grey levels would make it; said: its eps."""
    if threat.norm == "Linf" and threat.eps >= 1:
        mend = "in units of [0,1], such as '8/255'; a number of grey levels is divided by 255"
        got = f"{said}: every image may become every other"
        raise UsageError("eps below 1 in Linf, for pixels in [0,1]", got, mend=mend)


def _threat(norm: str, eps: float | str, victim: Victim) -> Threat:
    """The threat of that name; refuses a ball that is the whole box of [0,1], as eps in grey levels would be."""
    threat: Threat = parts.build("threats", {"name": str(norm).lower()}, eps=eps)
    refuse_whole_box(threat, eps)
    if threat.surface == "pixels" and "T" in victim.takes:
        return replace(threat, surface="relaxed")  # a ball around frames is no attack on a camera, and is called so
    return threat


def _rows(panel: Panel, rule: Rule, *, progress: bool) -> list[Row]:
    """All rows of a panel; of a gradient that is not finite it is said where it comes from."""
    try:
        return [row for piece in panel.watched(progress=progress) for row in piece]
    except Unfinite as error:
        some = panel.batch.take(torch.arange(min(8, len(panel.batch))))
        where = panel.victim.unfinite(some.x, rule, some.keys)
        if not where:
            raise
        got = f"{error.got}: it overflows in {where}"
        raise Unfinite(error.expected, got, mend=f"another rule than {rule}, or another surrogate there") from error


@in_own_modes
def evaluate(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    tier: str = "quick",
    eps: float | str = "8/255",
    norm: str = "Linf",
    rule: Rule | None = None,
    seed: int = 0,
    ids: Tensor | None = None,
    batch_size: int = 128,
    sources: Mapping[str, Victim] | None = None,
    control: Victim | None = None,
    limits: Limits | None = None,
    survivors: bool = True,
    progress: bool = False,
) -> Examination:
    """How robust a victim really is: the attacks of a tier, the audits of the attacks, and a verdict.

    images (N,C,H,W) in [0,1], or grids of events (N,T,2,H,W), a tensor or an array of floats; labels (N,), whole
    numbers as a tensor, an array or a list; neither no_grad, inference_mode nor autocast of the caller reaches inside.
    tier: smoke, quick, standard or audit; norm: Linf, L2 or L1, eps in units of [0,1], below 1 in Linf, on grids called
    'relaxed'; or flips, insert, delete, polarity or counts, eps a number of events. rule: that of training (where none
    is given, a wrapped victim's own, else ATan 2); ids (N,): the images' names, which key all randomness (0 .. N-1
    where none are given), so that a shard of a set gets the numbers it has in the whole. sources: other networks to
    transfer from; control: an undefended network of the same kind. limits: of audits, where others than theirs are
    wanted, as `spikeproof.evaluation.audits.limits()` lists them. survivors: each attack drops an image once it is
    fooled; False, for comparison alone, breaks the same and costs more, which the slack counts. Raises SpikeproofError
    for bad images, labels, victims in train mode, probabilities instead of logits, a cut graph, NaN.
    """
    victim = victim_of(victim)
    threat = _threat(norm, eps, victim)
    asked = Asked(
        tier,
        threat,
        str(eps),
        rule or victim.rule or ATan(),
        batch_size,
        sources=sources or {},
        control=control,
        limits=limits or {},
        survivors=survivors,
    )
    panel = Panel(victim, Batch.of(victim, images, labels, ids, seed), asked)
    rows = _rows(panel, asked.rule, progress=progress)
    right = int((panel.clean_answers == panel.batch.y).sum())
    return Examination(tier, rows, clopper_pearson(right, len(panel.batch)), verdict_of(rows))


def report_of(found: Examination, sparse: Mapping[str, Mapping[str, float | None]] | None = None) -> str:
    """What `evaluate` found, and what `sparsity` did, as one text: verdict, accuracies, audits, gradients."""
    lines = [str(found)]
    for site, names in (sparse or {}).items():
        values = (f"{name} {'undefined' if value is None else f'{value:.4g}'}" for name, value in names.items())
        lines.append(f"input gradient at the {site}: {', '.join(values)}")
    return "\n".join(lines)
