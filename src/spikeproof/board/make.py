"""A finished cell as an entry: what its rows say at one budget of one panel, and nothing that they do not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from spikeproof.board._fits import NOBODY, outcomes_digest
from spikeproof.board.entry import SCHEMA
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.metrics.robustness import clopper_pearson
from spikeproof.metrics.summaries import EvaluationSummary, PanelSummary
from spikeproof.metrics.verdict import NOT_EVALUATED
from spikeproof.rows import AttackRow, CleanRow, Row, of_kind
from spikeproof.store.packed import PackedCell
from spikeproof.store.store import Cell

__all__ = ["At", "Told", "chosen", "entry_of", "file_name"]

AnyCell = Cell | PackedCell


class At(NamedTuple):
    """Which panel at which budget, as the configuration writes it."""

    evaluation: str
    eps_text: str

    def __str__(self) -> str:
        return f"{self.evaluation} at {self.eps_text}"


class Told(NamedTuple):
    """What no rows say: who submits and where it can be read, and what a paper reports, as the schema has it."""

    by: str | None = None
    link: str | None = None
    reported: Mapping[str, Any] | None = None


def chosen(cell: AnyCell, evaluation: str | None = None, eps: str | None = None) -> At:
    """The panel and budget that are asked for; where neither is, the headline of the cell, or its only one. UsageError
    where that is none of its panels, or more than one."""
    panels = cell.summary["results"]["panels"]
    found = [
        panel for panel in panels if evaluation in (None, panel["evaluation"]) and eps in (None, panel["eps_text"])
    ]
    if evaluation is None and eps is None and len(found) > 1:
        headline = cell.config.get("headline") or {}
        found = [panel for panel in found if _is_headline(panel, headline)] or found
    if len(found) != 1:
        valid = [At(panel["evaluation"], panel["eps_text"]) for panel in panels]
        raise UsageError(
            f"one panel and budget of {cell.config.get('name')!r}", f"{len(found)} that are asked for", valid=valid,
            mend="--evaluation and --eps; what no panel has audited is no entry",
        )  # fmt: skip
    return At(found[0]["evaluation"], found[0]["eps_text"])


def _is_headline(panel: PanelSummary, headline: Mapping[str, Any]) -> bool:
    if panel["evaluation"] != headline.get("evaluation"):
        return False
    return Fraction(panel["eps_text"]) == Fraction(str(headline.get("eps")))


def file_name(key: str, at: At) -> str:
    """Of an entry, without its ending."""
    words = (re.sub(r"[^A-Za-z0-9.]+", "_", word)[:40] for word in at)
    return "-".join([key, *words])


def entry_of(cells: Sequence[AnyCell], at: At, told: Told) -> dict[str, Any]:
    """The tree of an entry, with no file beside it yet. cells: of one network that differ in nothing but the seed; the
    entry is about the one of the lowest worst case, so that nobody can choose a lucky one.

    Raises UsageError where the cells differ in more, SpikeproofError where their rows are damaged.
    """
    _refuse_unlike(cells, at)
    seen = {cell.key: _seen(cell, at) for cell in cells}
    cell = min(cells, key=lambda one: (_lowest(seen[one.key].result), one.config["seed"]))
    panel, evaluation = _panel(cell, at), _evaluation(cell, at)
    outcomes, random, result = seen[cell.key]
    attacks = [_picked(stage, _OF_ATTACK) for stage in panel["stages"]]
    return {
        "schema": SCHEMA,
        "identity": _identity(cell, told, outcomes),
        "network": _network(cell, random),
        "data": {
            "name": cell.config["data"]["name"],
            "split": "test",
            "digest": cell.provenance.get("data", {}).get("test"),
            "images": len(outcomes["ids"]),
        },
        "threat": _threat(cell, at, panel, evaluation),
        "result": result,
        "seeds": [{"seed": one.config["seed"], "key": one.key, **seen[one.key].result} for one in cells],
        "readings": _picked(panel, ("gap", "power", "slack")),
        "attacks": attacks,
        "audits": [_picked(audit, _OF_AUDIT) for audit in panel["audits"]],
        "cost": {
            "forwards": sum(attack["forwards"] for attack in attacks),
            "backwards": sum(attack["backwards"] for attack in attacks),
            "evaluate_seconds": cell.provenance.get("evaluate_seconds"),
            "train_seconds": cell.provenance.get("train_seconds"),
            "machine": cell.provenance.get("machine"),
        },
        "reported": told.reported,
        "files": {
            "weights": {"file": None, "sha256": cell.summary["files"]["model.safetensors"], "bytes": _size(cell)},
            "inputs": None,
        },
        "lowered": [],
        "config": cell.config,
        "outcomes": outcomes,
    }


_OF_ATTACK = ("attack", "group", "attacked", "broken", "newly_broken", "forwards", "backwards")
_OF_AUDIT = ("code", "name", "colour", "breaks", "value", "limit", "n", "says")


class _Seen(NamedTuple):
    """What the rows of a cell say: of each image, whether its code is random, and the numbers that follow."""

    outcomes: dict[str, list[int]]
    random: bool
    result: dict[str, Any]


def _seen(cell: AnyCell, at: At) -> _Seen:
    rows = cell.rows()
    outcomes = _outcomes(rows, at)
    random = any("draws_right" in row for row in of_kind(rows, AttackRow))  # as rows of random code alone say
    return _Seen(outcomes, random, _result(outcomes, _panel(cell, at)["verdict"]))


def _picked(of: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: of[name] for name in names}


def _refuse_unlike(cells: Sequence[AnyCell], at: At) -> None:
    """UsageError unless the cells are one network under one examination, from different seeds."""
    first = {name: value for name, value in cells[0].config.items() if name not in _OWN}
    for other in cells[1:]:
        unlike = [name for name in first if other.config.get(name) != first[name]]
        if unlike or other.provenance.get("data") != cells[0].provenance.get("data"):
            what = unlike[0] if unlike else "the content of its data"
            mend = "give each network an entry of its own"
            raise UsageError(
                f"cells that differ in their seed alone, as {cells[0].key}", f"another {what} in {other.key}", mend=mend
            )
    seeds = [cell.config["seed"] for cell in cells]
    if len({*seeds}) < len(seeds):
        raise UsageError("cells of different seeds", seeds)


_OWN = {"name", "seed", "weights"}
"""What the cells of one network may each have of their own; a study puts the seed into the name."""


def _panel(cell: AnyCell, at: At) -> PanelSummary:
    """Its readings at a budget; UsageError where its version took none."""
    found = next(one for one in cell.summary["results"]["panels"] if At(one["evaluation"], one["eps_text"]) == at)
    if not {"gap", "power", "slack"} <= found.keys():
        got = f"spikeproof {cell.provenance.get('spikeproof')}, of {cell.key}"
        raise UsageError("a cell of a version that takes gap, power and slack", got, mend="run its study anew")
    return found


def _evaluation(cell: AnyCell, at: At) -> EvaluationSummary | None:
    """None where a preflight audit was red, and nothing was attacked."""
    found = cell.summary["results"]["evaluations"]
    return next((one for one in found if At(one["evaluation"], one["eps_text"]) == at), None)


def _result(outcomes: Mapping[str, Sequence[int]], verdict: str) -> dict[str, Any]:
    """Clean and worst-case accuracy on the images of the panel, and its verdict."""
    columns = zip(outcomes["labels"], outcomes["predicted"], outcomes["fallen"], strict=True)
    right = [fallen for label, predicted, fallen in columns if label == predicted]
    total = len(outcomes["ids"])
    worst = clopper_pearson(right.count(NOBODY), total)._asdict()
    return {
        "clean": clopper_pearson(len(right), total)._asdict(),
        "worst": None if verdict == NOT_EVALUATED else worst,
        "verdict": verdict,
    }


def _lowest(result: Mapping[str, Any]) -> float:
    """By which the cell of an entry is chosen: one without a number comes first."""
    return -1.0 if result["worst"] is None else float(result["worst"]["share"])


def _outcomes(rows: Sequence[Row], at: At) -> dict[str, list[int]]:
    """What became of each image, by its id."""
    mine = [row for row in of_kind(rows, AttackRow) if At(row["evaluation"], row["eps_text"]) == at]
    attacks = list(dict.fromkeys(row["attack"] for row in mine))
    images: dict[int, list[int]] = {}
    for row in mine or _clean(rows):
        if row["image"] not in images:
            images[row["image"]] = [row["label"], row["predicted"], NOBODY]
        fell = row["kind"] == "attack" and row["fooled"] and row["label"] == row["predicted"]
        if row["kind"] == "attack" and fell and images[row["image"]][2] == NOBODY:
            images[row["image"]][2] = attacks.index(row["attack"])
    ids = sorted(images)
    columns = zip(*(images[id] for id in ids), strict=True)
    return {
        "ids": ids,
        **{name: list(column) for name, column in zip(("labels", "predicted", "fallen"), columns, strict=True)},
    }


def _clean(rows: Sequence[Row]) -> list[CleanRow]:
    found = [row for row in of_kind(rows, CleanRow) if row["split"] == "test"]
    if not found:
        raise SpikeproofError("rows of test images", "none", mend="run the cell anew")
    return found


def _identity(cell: AnyCell, told: Told, outcomes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    past = cell.provenance
    return {
        "name": cell.config["name"], "key": cell.key, "code": past.get("code"), "spikeproof": past.get("spikeproof"),
        "date": past.get("date"), "outcomes": outcomes_digest(outcomes), "by": told.by, "link": told.link,
    }  # fmt: skip


def _network(cell: AnyCell, random: bool) -> dict[str, Any]:
    """What kind of network it is, as its configuration and what was seen of it say."""
    config, past = cell.config, cell.provenance
    energy = cell.summary["results"]["energy"]
    own = config.get("network")
    return {
        "architecture": config["model"]["name"] if own is None else own["make"],
        "neuron": config["neuron"]["name"] if own is None else None,
        "rule": _rule(config) if own is None else past["network"]["rule"],
        "encoder": config["encoder"]["name"],
        "random": random,
        "steps": config["steps"],
        "defence": config["defence"]["name"] if own is None else None,
        "parameters": past.get("parameters"),
        "synaptic_operations": None if energy is None else energy["synaptic_operations"],
    }


def _rule(config: Mapping[str, Any]) -> str | None:
    rule = config.get("rule")
    if rule is None:
        return None
    options = ", ".join(f"{name} {value}" for name, value in rule.items() if name != "name")
    return f"{rule['name']} ({options})" if options else str(rule["name"])


def _threat(cell: AnyCell, at: At, panel: PanelSummary, evaluation: EvaluationSummary | None) -> dict[str, Any]:
    asked = next(one for one in cell.config["evaluations"] if one["name"] == at.evaluation)
    return {
        "evaluation": at.evaluation, "tier": panel["tier"], "surface": asked["surface"],
        "norm": evaluation["norm"] if evaluation is not None else None, "eps": panel["eps"], "eps_text": at.eps_text,
    }  # fmt: skip


def _size(cell: AnyCell) -> int | None:
    path: Path = cell.folder / "model.safetensors"
    return path.stat().st_size if isinstance(cell, Cell) and path.is_file() else None
