"""The words that tiers, stages and audits share: the tiers, the roles of stages, and the groups that pages show."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["GROUPS", "TIERS", "Group", "Role", "TierName"]

TierName = Literal["smoke", "quick", "standard", "audit"]

TIERS: tuple[TierName, ...] = get_args(TierName)
"""From the cheapest up; each runs what the ones before it run, or more of it."""

Role = Literal[
    "one step", "plain", "long", "dense twin", "white box", "more effort", "random", "transfer", "black box", "search"
]  # fmt: skip
"""What a stage is there for: what audits ask of it. 'one step' is FGSM and 'plain' PGD under the rule of training;
'search' goes on by queries from where a gradient led."""

Group = Literal["first", "dense twin", "white box", "more effort", "random", "transfer", "black box", "search"]

GROUPS: dict[Role, Group] = {
    "one step": "first",
    "plain": "first",
    "long": "first",
    "dense twin": "dense twin",
    "white box": "white box",
    "more effort": "more effort",
    "random": "random",
    "transfer": "transfer",
    "black box": "black box",
    "search": "search",
}
"""Role -> group, in the order of the cascade."""
