"""Is the robustness the network's, or the attacker's blindness? One diagnostic a file; the panel runs them.

An audit says in its own file which tiers run it and what its limits are. Limits are judgement calls, after Athalye et
al. 2018, Carlini et al. 2019, AutoAttack, Pintor et al. 2022; shares in [0,1] unless said; the raw values stand beside
each verdict. Where a limit is a share of images, an audit is red when the lower end of the 95 % interval of the
measured share lies above it: one image of fifty is no evidence of one in a hundred. Limits of 0 are strict: one image
is enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from spikeproof import parts
from spikeproof.evaluation.audits._evidence import Audit, AuditResult, Effort, Subject

__all__ = ["Audit", "AuditResult", "Effort", "Limits", "Subject", "every", "limits"]

Limits = Mapping[str, Mapping[str, float]]
"""Name of an audit -> name of a limit -> its value."""


def every(changed: Limits | None = None) -> dict[str, Audit]:
    """Every audit by its name, in the order of their codes, with some of the limits changed.

    UsageError for a name that no audit or no limit has.
    """
    changed = changed or {}
    found = {name: parts.build("audits", {"name": name, **more}) for name, more in changed.items()}
    # As they are they need no check, which takes its time.
    found |= {name: parts.find("audits", name)() for name in parts.names("audits") if name not in changed}
    return dict(sorted(found.items(), key=lambda item: _place(item[1].code)))


def limits() -> dict[str, dict[str, float]]:
    """Every limit of every audit, as `evaluate(limits=...)` takes those to change."""
    return {name: asdict(audit) for name, audit in every().items()}


def _place(code: str) -> tuple[int, str]:
    """D6d comes after D6 and before D10."""
    return int("".join(filter(str.isdigit, code))), code
