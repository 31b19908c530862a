"""Attack rows by evaluation, eps, attack and image, and what their fields say of each group."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from spikeproof.errors import SpikeproofError
from spikeproof.metrics._intervals import Interval
from spikeproof.metrics.summaries import Share
from spikeproof.rows import AttackRow, Protocol, Row, Spent, lacking, of_kind

__all__ = [
    "ByAttack", "ByImage", "Evaluation", "Index", "complete", "costs", "duplicate", "indexed", "named", "ordered",
    "pick", "plain", "right_when_clean", "same_eps",
]  # fmt: skip

ByImage: TypeAlias = dict[int, AttackRow]
ByAttack: TypeAlias = dict[str, ByImage]
Index: TypeAlias = dict[str, dict[float, ByAttack]]


class Evaluation(NamedTuple):
    """One threat at one budget, and the attacks that were run under it, in order of appearance."""

    evaluation: str
    protocol: Protocol
    surface: str
    norm: str
    eps: float
    eps_text: str
    attacks: tuple[str, ...]


def same_eps(a: float, b: float) -> bool:
    """Whether two numbers are the same budget: rows hold eps rounded to nine digits, 8/255 for one."""
    return math.isclose(a, b, rel_tol=1e-6)


def duplicate(what: str) -> SpikeproofError:
    return SpikeproofError(f"one row for {what}", "two", mend="the rows are damaged: run the cell anew")


def indexed(rows: Iterable[Row]) -> Index:
    """The attack rows by evaluation, eps, attack and image."""
    index: Index = {}
    for row in of_kind(rows, AttackRow):
        if row["protocol"] == "panel" and (missing := {"tier", "group"} - row.keys()):
            raise lacking(row, min(missing))
        name, eps, attack, image = row["evaluation"], float(row["eps"]), row["attack"], row["image"]
        images = index.setdefault(name, {}).setdefault(eps, {}).setdefault(attack, {})
        if image in images:
            raise duplicate(f"image {image}, evaluation {name}, eps {eps:g} and attack {attack}")
        images[image] = row
    return index


def ordered(index: Index) -> list[ByAttack]:
    return [by_eps[eps] for by_eps in index.values() for eps in sorted(by_eps)]


def pick(index: Index, evaluation: str, eps: float, attack: str | None) -> ByAttack:
    if evaluation not in index:
        raise SpikeproofError("an evaluation that was measured", repr(evaluation), valid=index)
    found = [value for value in index[evaluation] if same_eps(value, eps)]
    if not found:
        raise SpikeproofError(f"an eps of evaluation {evaluation}", eps, valid=sorted(index[evaluation]))
    group = index[evaluation][found[0]]
    if attack is None:
        return group
    if attack not in group:
        raise SpikeproofError(f"an attack of evaluation {evaluation}", repr(attack), valid=group)
    return {attack: group[attack]}


def complete(group: ByAttack) -> ByAttack:
    """The same group, refused where an image lacks an attack or where its rows disagree on the label."""
    every = set().union(*group.values())
    for attack, images in group.items():
        for image in sorted(every - images.keys()):
            raise SpikeproofError(
                f"a row of attack {attack} for image {image}", "none", mend="run the cell again to complete it"
            )
    for image in every:
        labels = {rows[image]["label"] for rows in group.values()}
        if len(labels) > 1:
            raise SpikeproofError(f"one label for image {image}", sorted(labels))
    return group


def named(group: ByAttack) -> Evaluation:
    names = {
        (row["evaluation"], row["protocol"], row["surface"], row["norm"], row["eps"], row["eps_text"])
        for images in group.values()
        for row in images.values()
    }
    if len(names) > 1:
        raise SpikeproofError("one protocol, surface and norm for each evaluation and eps", sorted(names, key=str))
    evaluation, protocol, surface, norm, eps, text = names.pop()
    return Evaluation(evaluation, protocol, surface, norm, float(eps), str(text), tuple(group))


def right_when_clean(group: ByAttack) -> dict[int, bool]:
    """image -> right on the clean input, in the row of every attack (fresh noise may tell them apart)."""
    wrong = {image for images in group.values() for image, row in images.items() if row["predicted"] != row["label"]}
    return {image: image not in wrong for image in next(iter(group.values()))}


def plain(interval: Interval | None) -> Share | None:
    return None if interval is None else interval.plain()


def costs(rows: Iterable[AttackRow]) -> Spent:
    rows = list(rows)
    return {"forwards": sum(row["forwards"] for row in rows), "backwards": sum(row["backwards"] for row in rows)}
