"""Fields of an entry that must fit one another: each that follows from others must be what those give."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from spikeproof.board._schema import Fault
from spikeproof.files import digest
from spikeproof.metrics.robustness import clopper_pearson
from spikeproof.metrics.verdict import NOT_EVALUATED, verdict_of

__all__ = ["NOBODY", "outcomes_digest", "standing", "unfit", "unlike_files"]

NOBODY = -1
"""In the place of the attack that broke an image first."""


def outcomes_digest(outcomes: Mapping[str, Sequence[int]]) -> str:
    """sha256 of what became of each image: two entries of one digest saw the same happen."""
    return hashlib.sha256(json.dumps(outcomes, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def standing(outcomes: Mapping[str, Sequence[int]]) -> Iterator[int]:
    """The ids of the images that are right and that no attack of the panel broke."""
    columns = (outcomes[name] for name in ("ids", "labels", "predicted", "fallen"))
    return (id for id, label, predicted, fallen in zip(*columns, strict=True) if label == predicted and fallen < 0)


def unfit(tree: Mapping[str, Any]) -> Iterator[Fault]:
    """Every field that does not fit the outcomes of the images, or another field."""
    outcomes = tree["outcomes"]
    yield from _of_lists(outcomes, tree)
    yield from _of_numbers(outcomes, tree)
    yield from _of_verdict(tree)
    yield from _of_seeds(tree)
    yield from _of_lowered(tree)
    yield from _of_config(tree)


def _of_lists(outcomes: Mapping[str, Sequence[int]], tree: Mapping[str, Any]) -> Iterator[Fault]:
    images = tree["data"]["images"]
    for name, values in outcomes.items():
        if len(values) != images:
            yield Fault(f"outcomes.{name}", f"{len(values)} of {images} images")
            return
    if len({*outcomes["ids"]}) < images:
        yield Fault("outcomes.ids", "an id that comes twice")
    columns = zip(outcomes["labels"], outcomes["predicted"], outcomes["fallen"], strict=True)
    for number, (label, predicted, fallen) in enumerate(columns):
        if fallen >= len(tree["attacks"]) or (label != predicted and fallen != NOBODY):
            yield Fault(
                f"outcomes.fallen[{number}]", f"{fallen} of {len(tree['attacks'])} attacks, on {predicted} for {label}"
            )
            return
    if tree["identity"]["outcomes"] != outcomes_digest(outcomes):
        yield Fault("identity.outcomes", "the digest of others")


def _of_numbers(outcomes: Mapping[str, Sequence[int]], tree: Mapping[str, Any]) -> Iterator[Fault]:
    right = sum(label == said for label, said in zip(outcomes["labels"], outcomes["predicted"], strict=True))
    left, images, result = len([*standing(outcomes)]), tree["data"]["images"], tree["result"]
    yield from _of_share("result.clean", result["clean"], right, images)
    if result["worst"] is not None:
        yield from _of_share("result.worst", result["worst"], left, images)
    for number, attack in enumerate(tree["attacks"]):
        if attack["newly_broken"] != (fell := outcomes["fallen"].count(number)):
            yield Fault(f"attacks[{number}].newly_broken", f"{attack['newly_broken']}, where the outcomes give {fell}")


def _of_seeds(tree: Mapping[str, Any]) -> Iterator[Fault]:
    """Its own cell is among the seeds, once and with its numbers."""
    result = tree["result"]
    for number, one in enumerate(tree["seeds"]):
        if one["key"] == tree["identity"]["key"] and any(one[name] != result[name] for name in result):
            yield Fault(f"seeds[{number}]", "other numbers than in result")
    keys = [one["key"] for one in tree["seeds"]]
    if len({*keys}) < len(keys) or tree["identity"]["key"] not in keys:
        yield Fault("seeds", "a key that is not there exactly once")


def _of_share(field: str, found: Mapping[str, Any], correct: int, total: int) -> Iterator[Fault]:
    expected = clopper_pearson(correct, total)
    for name, wanted in expected._asdict().items():
        if not math.isclose(found[name], wanted, rel_tol=1e-9, abs_tol=1e-9):
            yield Fault(f"{field}.{name}", f"{found[name]}, where the outcomes give {wanted:.9g}")
            return


def _of_lowered(tree: Mapping[str, Any]) -> Iterator[Fault]:
    left = {*standing(tree["outcomes"])}
    for number, one in enumerate(tree["lowered"]):
        if unfit := [id for id in one["ids"] if id not in left]:
            yield Fault(f"lowered[{number}].ids", f"{unfit[0]}, an image that did not stand, or not any more")
            return
        left -= {*one["ids"]}


def _of_verdict(tree: Mapping[str, Any]) -> Iterator[Fault]:
    """What the rule makes of the audits that the entry lists."""
    rest = {
        "kind": "audit",
        "means": "",
        "mend": "",
        "detail": {},
        "evaluation": "",
        "eps": 0.0,
        "eps_text": "",
        "tier": "",
    }
    rows: list[Any] = [{**rest, **audit} for audit in tree["audits"]]
    word, said = verdict_of(rows).word, tree["result"]["verdict"]
    if said != word:
        yield Fault("result.verdict", f"{said}, where the audits give {word}")
    if (tree["result"]["worst"] is None) != (said == NOT_EVALUATED):
        yield Fault(
            "result.worst", f"{'none' if tree['result']['worst'] is None else 'a number'} where the verdict is {said}"
        )


def _of_config(tree: Mapping[str, Any]) -> Iterator[Fault]:
    config, threat = tree["config"], tree["threat"]
    if config.get("name") != tree["identity"]["name"]:
        yield Fault(
            "config.name", f"{ascii(config.get('name'))[:80]}, where identity.name is {tree['identity']['name']!a}"
        )
    evaluations = config.get("evaluations")
    for one in evaluations if isinstance(evaluations, list) else ():
        if not isinstance(one, dict) or one.get("name") != threat["evaluation"] or not isinstance(one.get("eps"), list):
            continue
        if threat["eps_text"] in map(str, one["eps"]):
            return
    yield Fault("threat", f"{threat['evaluation']!a} at eps {threat['eps_text']!a}, which config.evaluations has not")


def unlike_files(folder: Path, files: Mapping[str, Any]) -> Iterator[Fault]:
    """Of the files that lie beside the entry, those that are others than it says."""
    for what in ("weights", "inputs"):
        one = files[what]
        here = one is not None and one["file"] is not None and (folder / one["file"]).is_file()
        if here and digest(folder / one["file"]) != one["sha256"]:
            yield Fault(f"files.{what}.sha256", f"another digest than that of {one['file']}")
