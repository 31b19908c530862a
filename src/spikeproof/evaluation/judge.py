"""The judge: an attack proposes, this file decides and writes rows.

The verdict uses the exact forward of the deployed network in eval mode, noise the attack has not seen, and a checked
budget. Rows are plain dicts, one per image and attack; nothing here knows of files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spikeproof.errors import CutGraph
from spikeproof.layers.winograd import taps_alone
from spikeproof.metrics import sparsity
from spikeproof.rows import AttackHead, AttackRow, CleanRow, OfGradient, Outcome, Protocol, Split
from spikeproof.tensors import exact, fold, rule_of
from spikeproof.types import Attack, Encoder, Estimator, Loss, Threat
from spikeproof.victims.batch import Batch
from spikeproof.victims.frozen import freeze
from spikeproof.victims.memory import images_that_fit
from spikeproof.victims.scene import STOCHASTIC_DRAWS, Cost, Scene, Verdict, verdict
from spikeproof.victims.taps import cut_at
from spikeproof.victims.victim import Victim, borrowed

__all__ = [
    "Case", "attack_rows", "clean_rows", "clean_verdict", "gradient_fields", "head_of", "outcomes",
    "proposal", "short", "spared",
]  # fmt: skip


def short(values: Tensor) -> list[float]:
    """Floats for a row, at 6 significant digits. Summaries compute on them, and lose no digit that they show."""
    return [float(f"{v:.6g}") for v in values.tolist()]


def head_of(protocol: Protocol, evaluation: str, threat: Threat, eps_text: str, attack: str) -> AttackHead:
    """The fields that say which attack at which budget a row is about."""
    return {
        "kind": "attack",
        "evaluation": evaluation,
        "protocol": protocol,
        "surface": threat.surface,
        "norm": threat.norm,
        "eps": float(f"{threat.eps:.9g}"),
        "eps_text": eps_text,
        "attack": attack,
    }


def clean_rows(victim: Victim, batch: Batch, *, split: Split) -> list[CleanRow]:
    """One row per image: kind 'clean', split, image, label, predicted, margin. Victims in train mode are refused."""
    found = clean_verdict(borrowed(victim), batch)
    columns = zip(batch.ids.tolist(), batch.y.tolist(), found.predicted.tolist(), short(found.margin), strict=True)
    return [
        {"kind": "clean", "split": split, "image": i, "label": t, "predicted": p, "margin": m} for i, t, p, m in columns
    ]


def clean_verdict(victim: Victim, batch: Batch) -> Verdict:
    """What a borrowed victim says of clean images."""
    draws = STOCHASTIC_DRAWS if victim.stochastic else 1
    return verdict(lambda k: victim(batch.x, exact, k), batch.y, fold(batch.keys, "clean"), draws)


@dataclass(frozen=True)
class Case:
    """One attack, with where its gradient comes from and what it raises.

    encoder: the attacker's, of the same forward and another gradient; None for the victim's own. pooling: the
    attacker's backward of every max pool, 'tie_spread' or 'avg'; None for torch's own. source: another network to craft
    on, whose images are then tried on the victim (transfer); None for the victim itself. survivors: the attack drops
    each image as soon as it is fooled; False for one that shall go on, as an attack on a source always does. after: the
    case whose points this one begins with, and pays for; None for the attack's own start.
    """

    attack: Attack
    estimator: Estimator
    loss: Loss
    encoder: Encoder | None = None
    pooling: str | None = None
    source: Victim | None = None
    survivors: bool = True
    after: Case | None = None

    def probe(self) -> str:
        """Equal for cases whose gradient at the clean point is the same."""
        return f"{self.estimator!r} {self.loss!r} {self.encoder!r} {self.pooling!r}"

    def going_on(self, survivors: bool) -> Case:
        """The same with this choice, also of the case that it begins with."""
        after = None if self.after is None else self.after.going_on(survivors)
        return replace(self, survivors=survivors, after=after)

    def attacked(self, victim: Victim) -> Victim:
        """The network that the attack looks at, when `victim` is the one under attack (or its frozen twin)."""
        if self.source is not None:
            return self.source
        if self.encoder is None and self.pooling is None:
            return victim
        return victim.attacked_through(self.encoder, self.pooling)


def attack_rows(
    victim: Victim, batch: Batch, *, evaluation: str, threats: Mapping[str, Threat], cases: Mapping[str, Case]
) -> list[AttackRow]:
    """Every case at every budget on one batch; one row per image, case, budget.

    threats: by the text of their eps; cases: by the name of their attack. Images that are wrong when clean are not
    attacked and count as fooled. The victim must be in eval mode and is left exactly as it was. Rows do not depend on
    how images are batched, up to float rounding in the kernels.
    """
    victim = borrowed(victim)
    clean = clean_verdict(victim, batch)
    right = (clean.predicted == batch.y).nonzero()[:, 0]
    attacked = batch.take(right).keyed(evaluation)
    passed = [spared(p, m) for p, m in zip(clean.predicted.tolist(), short(clean.margin), strict=True)]
    probes: dict[str, list[OfGradient]] = {}
    rows: list[AttackRow] = []
    for eps_text, threat in threats.items():
        for name, one in cases.items():
            outcome = list(passed)
            if len(right):
                probe = f"{threat.surface} {one.probe()}"
                if probe not in probes:
                    probes[probe] = gradient_fields(victim, attacked, name, one, threat)
                found = outcomes(victim, attacked, name, one, threat)
                for slot, result, gradient in zip(right.tolist(), found, probes[probe], strict=True):
                    outcome[slot] = {**result, **gradient}
            head = head_of("pixels", evaluation, threat, eps_text, name)
            columns = zip(batch.ids.tolist(), batch.y.tolist(), clean.predicted.tolist(), outcome, strict=True)
            rows += [{**head, "image": i, "label": t, "predicted": p, **o} for i, t, p, o in columns]
    return rows


def spared(answer: int, margin: float) -> Outcome:
    """The outcome of an image that is not attacked, because it is fooled already; it gives this answer."""
    return {"attacked": answer, "fooled": True, "skipped": True, "distance": 0.0, "margin": margin, "forwards": 0,
            "backwards": 0}  # fmt: skip


def gradient_fields(victim: Victim, batch: Batch, name: str, one: Case, threat: Threat) -> list[OfGradient]:
    """Of the attacked loss at the clean point, per image: is it all zero, its share of zeros, its l1 norm."""
    scene = Scene(one.attacked(freeze(victim)), batch.x, batch.y, fold(batch.keys, name), threat.surface)
    with _naming_the_cut(scene, batch.x, one), taps_alone():
        _, g, _ = one.estimator(scene.objective(one.loss), scene.start, one.estimator.init(scene.start), 0)
    return [
        {"zero_gradient": share == 1.0, "zero_share": share, "gradient_l1": scale}
        for share, scale in zip(short(sparsity.zero_share(g)), short(sparsity.l1(g)), strict=True)
    ]


@contextmanager
def _naming_the_cut(scene: Scene, x: Tensor, one: Case) -> Iterator[None]:
    """A graph that is cut is refused with the name of what cuts it."""
    try:
        yield
    except CutGraph as error:
        place = cut_at(scene.victim, x[:1], rule_of(one.estimator), scene.keys[:1])
        got = error.got if place is None else f"{error.got}; the graph is cut at {place}"
        raise CutGraph(error.expected, got, mend=error.mend) from None


def proposal(
    victim: Victim, batch: Batch, name: str, one: Case, threat: Threat, cost: Cost | None = None
) -> tuple[Scene, Tensor]:
    """What one case makes of a batch that is right when clean, on the network that it is given: the scene in which it
    looked for points, and these points (B,*) on its surface."""
    return _proposed(victim, batch.keyed(name), one, threat, cost or Cost(len(batch)))


def _proposed(victim: Victim, batch: Batch, one: Case, threat: Threat, cost: Cost) -> tuple[Scene, Tensor]:
    # Fooled on another network is not fooled yet.
    survivors = one.survivors and one.source is None
    scene = Scene(one.attacked(victim), batch.x, batch.y, batch.keys, threat.surface, survivors=survivors)
    start = {} if one.after is None else {"start": _proposed(victim, batch, one.after, threat, cost)[1]}
    with _naming_the_cut(scene, batch.x, one):
        f = scene.objective(one.loss, cost)
        point = one.attack(f, scene.start, threat, one.estimator, batch.keys, **start).detach()
    return scene, point


def outcomes(victim: Victim, batch: Batch, name: str, one: Case, threat: Threat) -> list[Outcome]:
    """One case on a batch that is right when clean: the part of each image's row that the attack decides.

    Crafted on the frozen twin, judged by the victim. Where the two give different answers to the point, which
    'twin_differs' says, and the victim is not fooled, the attack is run again on the victim itself. That a twin is
    another network altogether, on which attacks are weaker, is for an audit (D14) to find.
    """
    fit = max(1, images_that_fit(freeze(victim), batch.x, batch.keys))
    # Every image has its own randomness: parts are the whole.
    return [row for part in batch.split(fit) for row in _outcomes(victim, part, name, one, threat)]


def _outcomes(victim: Victim, batch: Batch, name: str, one: Case, threat: Threat) -> list[Outcome]:
    twin = freeze(victim)
    found, apart, unconfirmed = _judged(victim, twin, batch, name, one, threat)
    if len(unconfirmed):
        again, _, _ = _judged(victim, victim, batch.take(unconfirmed), name, one, threat)
        for slot, row in zip(unconfirmed.tolist(), again, strict=True):
            row["forwards"] += found[slot]["forwards"]
            row["backwards"] += found[slot]["backwards"]
            found[slot] = row
    if twin is victim or one.source is not None:
        return found
    return [{**row, "twin_differs": bool(differs)} for row, differs in zip(found, apart.tolist(), strict=True)]


def _judged(
    victim: Victim, looked_at: Victim, batch: Batch, name: str, one: Case, threat: Threat
) -> tuple[list[Outcome], Tensor, Tensor]:
    """Crafted on one network, judged by the other: rows, where their answers differ (B,), and the slots (n,) of the
    images among these that are not fooled."""
    y, cost = batch.y, Cost(len(batch))
    crafted, point = proposal(looked_at, batch, name, one, threat, cost)
    scene = Scene(victim, batch.x, y, crafted.keys, threat.surface)
    distance = scene.check_budget(name, point, threat)
    found = scene.judge(point, name)
    told = (found.predicted.tolist(), y.tolist(), short(distance), short(found.margin))
    columns = zip(*told, cost.rows(), strict=True)
    rows: list[Outcome] = [
        {
            "attacked": a,
            "fooled": a != t,
            "distance": d,
            "margin": m,
            "forwards": spent["forwards"],
            "backwards": spent["backwards"],
        }
        for a, t, d, m, spent in columns
    ]
    if scene.stochastic:  # the answer above is the majority's; this gives the mean over draws, and 'in every draw'
        rows = [{**row, "draws_right": share} for row, share in zip(rows, short(found.right), strict=True)]
    nowhere = torch.zeros_like(y, dtype=torch.bool)
    if looked_at is victim or one.source is not None:
        return rows, nowhere, nowhere.nonzero()[:, 0]
    with torch.no_grad():  # on one draw of the noise, the same for both
        ours, theirs = (each.logits(point, exact, scene.keys).argmax(1) for each in (scene, crafted))
    lost = (theirs != ours) & (found.predicted == y) & (not scene.stochastic)
    return rows, ours != theirs, lost.nonzero()[:, 0]
