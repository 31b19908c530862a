"""Panels: which audits were red, and what each attack of the cascade left standing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from spikeproof.errors import SpikeproofError
from spikeproof.metrics._index import ByAttack, Index, complete, costs, duplicate, named, plain, right_when_clean
from spikeproof.metrics._intervals import clopper_pearson
from spikeproof.metrics.summaries import PanelSummary, Share, Slack, StageSummary
from spikeproof.metrics.verdict import NOT_EVALUATED, POWER, SLACK, verdict_of
from spikeproof.rows import AuditRow, Found, Row, of_kind

__all__ = ["panels"]


def panels(rows: Iterable[Row], index: Index) -> list[PanelSummary]:
    """Every evaluation and eps that was audited, or whose attacks are a panel's; in order, each by ascending eps."""
    audits: dict[str, dict[float, list[AuditRow]]] = {}
    for name, by_eps in index.items():
        for eps, group in by_eps.items():
            if named(group).protocol == "panel":
                audits.setdefault(name, {}).setdefault(eps, [])
    for row in of_kind(rows, AuditRow):
        audits.setdefault(row["evaluation"], {}).setdefault(float(row["eps"]), []).append(row)
    return [
        _panel(by_eps[eps], complete(index.get(name, {}).get(eps, {})))
        for name, by_eps in audits.items()
        for eps in sorted(by_eps)
    ]


def _panel(audits: Sequence[AuditRow], group: ByAttack) -> PanelSummary:
    heads = [*audits, *(row for images in group.values() for row in images.values())]
    names = {(row["evaluation"], row["eps"], row["eps_text"], str(row.get("tier"))) for row in heads}
    if len(names) > 1:
        raise SpikeproofError("one tier for each evaluation and eps of a panel", sorted(names))
    evaluation, eps, eps_text, tier = names.pop()
    codes = [row["code"] for row in audits]
    if len(set(codes)) < len(codes):
        twice = next(code for code in codes if codes.count(code) > 1)
        raise duplicate(f"audit {twice} of evaluation {evaluation}")
    verdict = verdict_of(audits)
    told = bool(group) and verdict.word != NOT_EVALUATED
    return {
        "evaluation": evaluation,
        "eps": eps,
        "eps_text": eps_text,
        "tier": tier,
        "verdict": verdict.word,
        "gap": _gap(group) if told else None,
        "power": _power(audits) if told else None,
        "slack": _slack(audits) if told else None,
        "red": list(verdict.red),
        "green": list(verdict.green),
        "absent": list(verdict.absent),
        "attacked": bool(group),
        "stages": _stages(group, told=told) if group else [],
        "audits": [_found(row) for row in audits],
    }


def _gap(group: ByAttack) -> Share | None:
    """None where a panel had no plain attack; it is the second of the first group, after one step."""
    first = [images for images in group.values() if next(iter(images.values()))["group"] == "first"]
    if len(first) < 2:
        return None
    left = {image for image, row in first[1].items() if not row["fooled"]}
    fell = {image for image in left if any(images[image]["fooled"] for images in group.values())}
    return plain(clopper_pearson(len(fell), len(first[1])))


def _power(audits: Sequence[AuditRow]) -> Share | None:
    for value, row in _measured(audits, POWER):
        return plain(clopper_pearson(round(value * row["n"]), row["n"]))
    return None


def _slack(audits: Sequence[AuditRow]) -> Slack | None:
    for value, row in _measured(audits, SLACK):
        return {"expected": float(str(row["detail"]["expected"])), "high": value}
    return None


def _measured(audits: Sequence[AuditRow], code: str) -> Iterator[tuple[float, AuditRow]]:
    """The value of an audit, with its row, if it was run and has one."""
    return ((row["value"], row) for row in audits if row["code"] == code and row["value"] is not None)


def _found(row: AuditRow) -> Found:
    return {
        "code": row["code"], "name": row["name"], "colour": row["colour"], "value": row["value"],
        "limit": row["limit"], "n": row["n"], "says": row["says"], "means": row["means"], "mend": row["mend"],
        "breaks": row["breaks"], "detail": row["detail"],
    }  # fmt: skip


def _stages(group: ByAttack, *, told: bool) -> list[StageSummary]:
    """The cascade: on how many images each attack was run, how many it broke, how many of those no attack before had,
    and the share of all images that is `left` after it (None where it is not to be told)."""
    right = right_when_clean(group)
    standing = {image for image in right if right[image]}
    total, stages = len(right), list[StageSummary]()
    for attack, images in group.items():
        ran = [row for row in images.values() if not row.get("skipped")]
        before = len(standing)
        standing -= {image for image, row in images.items() if row["fooled"]}
        stages.append({
            "attack": attack,
            "group": next(iter(images.values()))["group"],
            "attacked": len(ran),
            "broken": sum(row["fooled"] for row in ran),
            "newly_broken": before - len(standing),
            "left": plain(clopper_pearson(len(standing), total)) if told else None,
            **costs(images.values()),
        })  # fmt: skip
    return stages
