"""D22: how far may the number still fall? From when the images fell that did (our own; after Boehme 2018)."""

from __future__ import annotations

from dataclasses import dataclass

from spikeproof.evaluation.audits._evidence import Audit, AuditResult, Subject
from spikeproof.metrics.slack import FORESEEN, falls, foreseen
from spikeproof.metrics.verdict import SLACK, UNSETTLED

__all__ = ["Slack"]


@dataclass(frozen=True)
class Slack(Audit):
    """value: the upper end of how many more images an attacker with eight times the passes would break, as a share of
    all images: points of robust accuracy.

    What few images can show is little: with 64 and none that fell late it is still 6 points, with 128 half of that.
    """

    code = SLACK
    title = "slack"
    means = "Images fell until the end: an attacker who goes on breaks more of them."
    mend = "A higher tier, which goes on for longer; more images, which narrow the upper end."
    breaks = UNSETTLED
    tier = "smoke"
    asks_gradient = False

    limit: float = 0.05  # of all images: what eight times the passes may still break (a judgement call)

    def __call__(self, subject: Subject) -> AuditResult:
        counted = falls(subject.rows)
        if not counted.images:
            return self.absent("no attack was run")
        expected, upper = foreseen(counted)
        value = upper / counted.images
        says = f"{FORESEEN} times the passes would break {expected:.1f} more images, at most {upper}"
        says += f" of {counted.standing} that stand; {counted.late} fell in all but the first eighth"
        detail = {"expected": expected / counted.images, "standing": counted.standing, "late": counted.late}
        return self.found(value > self.limit, says, value=value, limit=self.limit, n=counted.images, **detail)
