"""D18: the same attack must break a network of the same kind that nobody defended (Carlini et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from spikeproof.evaluation.audits._evidence import Audit, AuditResult, Subject
from spikeproof.evaluation.judge import clean_verdict, outcomes

__all__ = ["Control"]


@dataclass(frozen=True)
class Control(Audit):
    """The plain attack on a given undefended victim. value: the share of its clean successes that fall.

    The deliberately masked networks are the toolkit's own controls: `spikeproof controls`.
    """

    code = "D18"
    title = "positive control"
    means = "An attack that cannot break an undefended network proves nothing about a defended one."
    mend = "The budget is too small for this data, or the attack too weak: mend that first."
    breaks = "not evaluated"
    tier = "standard"
    given = "control"

    limit: float = 0.99  # at least so many images of an undefended network broken

    def __call__(self, subject: Subject) -> AuditResult:
        control = subject.control
        if control is None:
            return self.absent("give an undefended victim of the same kind as `control`")
        case = replace(subject.case, encoder=None)  # a control may have another code
        fell = n = 0
        for x, y, keys in subject.batches():
            right = clean_verdict(control, x, y, keys).predicted == y
            if right.any():
                rows = outcomes(control, x[right], y[right], keys[right], "control", case, subject.threat)
                fell, n = fell + sum(row["fooled"] for row in rows), n + len(rows)
        limit = self.limit
        says = f"{fell} of {n} images of the undefended network fall"
        short = n == 0 or self.share(n - fell, n, 1 - limit, "").colour == "red"
        return self.found(short, says, value=fell / max(n, 1), limit=limit, n=n)
