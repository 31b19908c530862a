"""D21: the attacks must find an adversarial example that is known to be there (Zimmermann et al. 2022)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from math import ceil

from torch import Tensor, nn

from spikeproof.errors import SpikeproofError
from spikeproof.evaluation.audits._binarised import Planted, plant
from spikeproof.evaluation.audits._evidence import Audit, AuditResult, Subject
from spikeproof.evaluation.judge import Case
from spikeproof.evaluation.plain import at_random
from spikeproof.losses import margin
from spikeproof.metrics.verdict import POWER, UNSETTLED
from spikeproof.victims.frozen import freeze
from spikeproof.victims.scene import Cost
from spikeproof.victims.victim import Victim

__all__ = ["Power"]

_APART = ("one step", "transfer", "black box")
"""Roles that do not count: one step is no search, and other networks have not these read-outs."""

_POINTS = 4
"""Points that the hidden one is told from, in units of the effort's draws."""


@dataclass(frozen=True)
class Power(Audit):
    """Each image's read-out is fitted anew, so that one random corner of its ball, and hardly another point, is of
    another class; then the tier's attacks on the network itself look for that class, one after the other.

    value: the share of the decided images for which one of them finds it. Beside it what the plain attack finds alone,
    what only the searches do, behind any gradient, and what as many random corners find as the attacks asked forwards
    and backwards: where these find it too, the test says little. Where no image stands there is nothing to miss, and
    it is green. Undecided are images whose read-out cannot tell the corner from the other points; they do not count.
    What lies behind the read-out, such as logits that are too large for the loss, is not tested.
    """

    code = POWER
    title = "power"
    means = "The attacks miss adversarial examples that are known to be there, so they may miss others."
    mend = "More steps, other surrogates, longer searches; publish the worst case over them as an upper bound."
    breaks = UNSETTLED
    tier = "quick"

    limit: float = 0.95  # at least so many planted examples found: sound attacks find nearly all (a judgement call)

    def unfit(self, victim: Victim) -> str:
        linear = any(isinstance(layer, nn.Linear) for layer in victim.body.modules())
        return "" if linear else "no linear layer that could be fitted anew"

    def __call__(self, subject: Subject) -> AuditResult:
        if all(subject.roles[name] in _APART for name in subject.cases):
            return self.absent("no gradient attack in this tier")
        sought = list[_Sought]()
        for batch in subject.batches(max(subject.effort.images // 2, 1)):
            try:
                points = _POINTS * subject.effort.draws
                planted = plant(subject.victim, batch.keyed("power"), subject.threat, points)
            except SpikeproofError as error:
                return self.absent(f"no read-out that could be fitted anew: {error}")
            sought.append(_Sought(subject, planted))
        undecided = sum(int((~one.planted.decided).sum()) for one in sought)
        n, passes = sum(len(one.images) for one in sought), sum(one.passes for one in sought)
        if n <= undecided:
            return self.absent(f"undecided: {undecided} of {n + undecided} read-outs tell no corner of the ball apart")
        by = sum((one.by for one in sought), Counter[str]())
        found, plain = by.total(), sum(count for name, count in by.items() if subject.roles.get(name) == "plain")
        chance = sum(one.chance(max(ceil(passes / n), 1)) for one in sought)
        asked = sum(count for name, count in by.items() if subject.roles.get(name) == "search")
        says = f"{found} of {n} planted examples found, {plain} by the plain attack, {asked} by the searches alone, "
        says += f"{chance} by chance"
        says += f"; {undecided} undecided" if undecided else ""
        # Two images are no evidence; where nothing stands there is nothing that the attacks can have missed.
        red = n - found > max(2, round((1 - self.limit) * n, 9)) and not subject.all_fell()
        shares = {"plain": plain / n, "search": asked / n, "random": chance / n}
        return self.found(red, says, value=found / n, limit=self.limit, n=n, undecided=undecided, by=dict(by), **shares)


class _Sought:
    """The attacks of a subject on planted examples, each on what those before it have not found.

    images (n,): the decided ones; by: how many each attack found; passes: what they asked, forwards and backwards.
    """

    def __init__(self, subject: Subject, planted: Planted) -> None:
        self.subject, self.planted = subject, planted
        self.images = standing = planted.decided.nonzero()[:, 0]
        self.by, self.passes = Counter[str](), 0
        for name, case in subject.cases.items():
            if len(standing) and subject.roles[name] not in _APART:
                cost = Cost(len(standing))
                hit = self._found(name, case, standing, cost)
                self.passes += int(cost.forwards.sum() + cost.backwards.sum())
                self.by[name], standing = int(hit.sum()), standing[~hit]

    def chance(self, draws: int) -> int:
        """How many images random corners find, `draws` of them each."""
        if not len(self.images):
            return 0
        blind = replace(self.subject.case, attack=at_random(self.subject.threat, draws))
        return int(self._found("random", blind, self.images, Cost(len(self.images))).sum())

    def _found(self, name: str, case: Case, index: Tensor, cost: Cost) -> Tensor:
        """For which of some images (n,) a case finds the other class, by the verdict of the deployed network."""
        point = self._point(name, case, index, cost)
        judge = self.planted.scene(index, name)
        judge.check_budget(name, point, self.subject.threat)
        return judge.judge(point, name).predicted == 1

    def _point(self, name: str, case: Case, index: Tensor, cost: Cost) -> Tensor:
        planted = self.planted
        start = {} if case.after is None else {"start": self._point(name, case.after, index, cost)}
        scene = planted.scene(index, name, case.attacked(freeze(planted.victim)), survivors=case.survivors)
        f = scene.objective(margin, cost)
        return case.attack(f, scene.start, self.subject.threat, case.estimator, scene.keys, **start)
