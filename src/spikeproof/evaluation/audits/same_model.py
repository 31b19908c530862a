"""D14: the network under attack must be the network that is deployed, and one image's answer its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spikeproof import parts
from spikeproof.evaluation.audits._evidence import Audit, AuditResult, Subject, difference, worse
from spikeproof.tensors import exact, rule_of
from spikeproof.victims.frozen import freeze

__all__ = ["SameModel"]


@dataclass(frozen=True)
class SameModel(Audit):
    """Logits under the attack's rule against those of the exact forward, clean and perturbed: the same, to rounding.

    And the answer to an image alone against that in company, which differs where batch statistics or a state leak from
    one image to another, and against that of the frozen twin on which attacks are crafted (float rounding flips a few
    spikes: a small share is allowed). value: the larger of the two shares, or 1 where the first test fails.
    """

    code = "D14"
    title = "same model"
    means = "The attack did not see the network that is judged, or the judge's answer depends on the company."
    mend = "Batch-norm in eval mode, everywhere; one forward for attack and verdict; no state between images."
    breaks = "not evaluated"
    tier = "smoke"
    asks_gradient = False
    preflight = True

    limit: float = 0.02  # images whose answer depends on the batch they are in
    logits: float = 1e-6  # relative difference of the attacked and the deployed forward: kernels may round

    def __call__(self, subject: Subject) -> AuditResult:
        apart, company, twins, n, limit = 0.0, 0, 0, 0, self.limit
        for x, _, keys in subject.batches(at_least=2):  # alone, an image has no company to compare with
            n += len(x)
            try:
                apart = worse(apart, self._apart(subject, x, keys))
                company += self._other_answers(subject, x, keys)
                twins += self._twin_differs(subject, x, keys)
            except RuntimeError as error:  # a state of each image does not fit a batch of another size
                says = f"a forward fails after a batch of another size: {error}"
                return self.found(True, says, value=None, limit=limit, n=n)
        if not apart <= self.logits:
            says = f"logits under attack differ from the deployed ones by {apart:.3g} of their size"
            return self.found(True, says, value=1.0, limit=limit, n=n)
        if twins > company:
            return self.share(twins, n, limit, "images to which the network's frozen twin gives another answer")
        return self.share(company, n, limit, "answers that depend on the other images of the batch")

    @staticmethod
    def _apart(subject: Subject, x: Tensor, keys: Tensor) -> float:
        """How far attacked and deployed logits are apart, clean and at a random point of the ball."""
        attacked = subject.case.attacked(subject.victim)
        rule = rule_of(subject.case.estimator)
        apart = 0.0
        for point in (x, subject.threat.sample(x, keys) if parts.surface(subject.threat.surface).before_encoder else x):
            with torch.no_grad():
                deployed = subject.victim(point, exact, keys)
            with torch.enable_grad():
                seen = attacked(point.detach().requires_grad_(), rule, keys).detach()
            apart = worse(apart, difference(seen, deployed))
        return apart

    @staticmethod
    @torch.no_grad()
    def _other_answers(subject: Subject, x: Tensor, keys: Tensor) -> int:
        """How many images get another answer alone than together."""
        together = subject.victim(x, exact, keys).argmax(1)
        alone = [subject.victim(x[i : i + 1], exact, keys[i : i + 1]).argmax(1) for i in range(len(x))]
        return int((torch.cat(alone) != together).sum())

    @staticmethod
    @torch.no_grad()
    def _twin_differs(subject: Subject, x: Tensor, keys: Tensor) -> int:
        """How many images, clean or at a random point of the ball, get another answer of the twin."""
        attacked, twin = (subject.case.attacked(network) for network in (subject.victim, freeze(subject.victim)))
        differs = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        for point in (x, subject.threat.sample(x, keys) if parts.surface(subject.threat.surface).before_encoder else x):
            differs |= attacked(point, exact, keys).argmax(1) != twin(point, exact, keys).argmax(1)
        return int(differs.sum())
