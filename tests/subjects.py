"""Victims whose answers are known in closed form, put before the audits as a panel would put them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from made import made
from torch import Tensor, nn

from spikeproof.attacks.pgd import PGD
from spikeproof.encoders.direct import Direct
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluation.audits import Effort, Subject
from spikeproof.evaluation.judge import Case
from spikeproof.evaluation.roles import Role
from spikeproof.evaluation.tiers import Tier
from spikeproof.losses import margin
from spikeproof.rows import Row
from spikeproof.rules.atan import ATan
from spikeproof.tensors import image_keys, uniform
from spikeproof.threats.linf import Linf
from spikeproof.types import Attack, Encoder, Loss, Rule, Threat
from spikeproof.victims.batch import Batch
from spikeproof.victims.victim import Victim

__all__ = ["Changed", "D", "Linear", "away", "brief", "clear", "linear", "roles_of", "row", "subject"]

D = 16


class Linear(nn.Module):
    """Two classes on images (B,1,4,4), float64: logits (0, w (x - 1/2) + b), where w has D entries."""

    in_channels, classes = 1, 2

    def __init__(self, w: Tensor, b: float) -> None:
        super().__init__()
        self.w, self.b = w.double(), b

    def classify(self, z: Tensor, rule: Rule) -> Tensor:
        score = (z.mean(0).flatten(1) - 0.5) @ self.w + self.b
        return torch.stack([torch.zeros_like(score), score], 1)


class Changed(nn.Module):
    """A body with something done to its input (T,B,C,H,W), and to its logits under a rule."""

    def __init__(
        self,
        body: nn.Module,
        before: Callable[[Tensor], Tensor] = lambda z: z,
        after: Callable[[Tensor, Rule], Tensor] = lambda logits, rule: logits,
    ) -> None:
        super().__init__()
        self.body, self.before, self.after = body, before, after
        self.in_channels, self.classes = body.in_channels, body.classes

    def classify(self, z: Tensor, rule: Rule) -> Tensor:
        return self.after(self.body.classify(self.before(z), rule), rule)  # type: ignore[operator]


def linear(w: Tensor | None = None, b: float = -0.1, *, encoder: Encoder | None = None, **changes: Any) -> Victim:
    """A linear victim; every weight is 1 where none are given. An image of grey 1/2 has the label 0 where b < 0."""
    body: nn.Module = Linear(torch.ones(D) if w is None else w, b)
    return Victim(Changed(body, **changes) if changes else body, Direct() if encoder is None else encoder, 1).eval()


def clear(count: int, *, spread: float = 0.0) -> Tensor:
    """Grey images (count,1,4,4), float64: every pixel within `spread` of 1/2."""
    return 0.5 + spread * (2 * uniform(image_keys(3, torch.arange(count)), (1, 4, 4)).double() - 1)


def away(hidden: Tensor) -> Callable[[Tensor], Tensor]:
    """The same values; the hidden entries of each image get no gradient."""

    def change(z: Tensor) -> Tensor:
        return torch.where(hidden.view(z.shape[2:]), z.detach(), z)

    return change


def subject(
    victim: Victim,
    x: Tensor,
    *,
    threat: Threat | None = None,
    attack: Attack | None = None,
    loss: Loss = margin,
    rows: Sequence[Row] = (),
    effort: Effort | None = None,
    control: Victim | None = None,
    batch_size: int = 64,
    ids: Tensor | None = None,
    label: int = 0,
) -> Subject:
    """The images, which must all have this label; under L-inf 0.02 and PGD on the margin where nothing else is said."""
    y = torch.full((len(x),), label, dtype=torch.int64)
    batch = Batch.of(victim, x, y, torch.arange(len(x)) if ids is None else ids, 0)
    case = Case(PGD(steps=10) if attack is None else attack, WhiteBox(ATan()), loss)
    threat = Linf(0.02) if threat is None else threat
    effort = Effort(64, 50, 10) if effort is None else effort
    return Subject(
        victim,
        batch,
        threat,
        case,
        rows,
        effort,
        batch_size,
        control,
        roles_of(rows),
        {},
        {row["attack"] for row in rows},
    )


def roles_of(rows: Sequence[Row]) -> Mapping[str, Role]:
    """The roles of stages in rows made by hand: of the first two by name, of the others their group."""
    first: dict[str, Role] = {"fgsm": "one step", "pgd-20": "plain", "first": "plain"}
    return {row["attack"]: first.get(row["attack"], cast(Role, row["group"])) for row in rows}


def row(attack: str, group: str, image: int, fooled: bool, **more: Any) -> Row:
    """One row of a panel."""
    return made("attack", attack=attack, group=group, image=image, fooled=fooled, **{"distance": 0.01, **more})


_FEW = {"steps": 3, "queries": 4, "draws": 3, "restarts": 2}


def _shorter(part: Any, few: dict[str, int]) -> Any:
    given = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    return dataclasses.replace(part, **{k: min(given[k], most) for k, most in few.items() if k in given})


def _shorter_case(case: Case, few: dict[str, int]) -> Case:
    after = None if case.after is None else _shorter_case(case.after, few)
    attack, estimator = _shorter(case.attack, few), _shorter(case.estimator, few)
    return dataclasses.replace(case, attack=attack, estimator=estimator, after=after)


def brief(tier: Tier, audits: Sequence[str] | None = None, **few: int) -> Tier:
    """The same stages by the same names, with a few steps, queries and draws each; and other audits, where given."""
    few = {**_FEW, **few}
    stages = tuple(dataclasses.replace(s, case=_shorter_case(s.case, few)) for s in tier.stages)
    wanted = tier.audits if audits is None else (*tier.audits[:2], *audits)
    return dataclasses.replace(tier, stages=stages, audits=wanted)
