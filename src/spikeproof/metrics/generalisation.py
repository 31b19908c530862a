"""Generalisation, three ways: from training images to others, the same under attack, and to corrupted images.

Pure functions of the rows of a cell (see `spikeproof.measures.generalisation` for those of the last two).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

import scipy  # its functions take half a second to import, and do so when they are first asked

from spikeproof.errors import SpikeproofError
from spikeproof.lines import Lines
from spikeproof.metrics._intervals import Interval, clopper_pearson, newcombe
from spikeproof.metrics.summaries import (
    CleanGaps,
    CorruptionKind,
    CorruptionSummary,
    Gap,
    GeneralisationSummary,
    NormalMean,
    RobustGap,
)
from spikeproof.rows import CleanRow, CorruptionRow, RobustRow, Row, Split, columns

__all__ = ["summarise"]


def summarise(rows: Iterable[Row]) -> GeneralisationSummary:
    """Every number on generalisation that the rows of one cell hold; None where it was not measured.

    Raises SpikeproofError where an image has two rows of a kind, or lacks one that others have.
    """
    rows = rows if isinstance(rows, Lines) else Lines(rows)
    clean = _right("clean", *columns(rows, CleanRow, *_ANSWERED))
    return {"clean": _clean(clean), "robust": _robust(rows), "corruptions": _corruptions(rows, clean)}


_ANSWERED = ("split", "image", "predicted", "label")


def _right(
    kind: str,
    splits: Sequence[Split],
    images: Sequence[int],
    predicted: Sequence[int],
    labels: Sequence[int],
    fooled: Sequence[bool] | None = None,
) -> dict[Split, dict[int, bool]]:
    """split -> image -> whether it is classified as labelled, and not fooled."""
    found: dict[Split, dict[int, bool]] = {}
    for split, image, answer, label, fell in zip(
        splits, images, predicted, labels, fooled or [False] * len(images), strict=True
    ):
        seen = found.setdefault(split, {})
        if image in seen:
            raise _damaged(f"one row of kind {kind} for image {image}", "two")
        seen[image] = answer == label and not fell
    return found


def _damaged(expected: str, got: object) -> SpikeproofError:
    return SpikeproofError(expected, got, mend="the rows are damaged: run the cell anew")


def _share(right: Iterable[bool]) -> Interval:
    right = list(right)
    return clopper_pearson(sum(right), len(right))


def _clean(rights: Mapping[Split, Mapping[int, bool]]) -> CleanGaps:
    shares = {split: _share(right.values()) for split, right in rights.items()}

    def gap(other: Split) -> Gap | None:
        return newcombe(shares["train"], shares[other]).plain() if {"train", other} <= shares.keys() else None

    return {"train_test": gap("test"), "train_validation": gap("validation")}


def _robust(rows: Iterable[Row]) -> RobustGap | None:
    budgets, texts, attacks = columns(rows, RobustRow, "eps", "eps_text", "attack")
    if not budgets:
        return None
    rights = _right("robust", *columns(rows, RobustRow, *_ANSWERED, "fooled"))
    shares = {split: _share(right.values()) for split, right in rights.items()}
    if shares.keys() != {"train", "test"}:
        raise _damaged("attacked images of the splits train and test", sorted(shares))
    return {
        "eps": budgets[0],
        "eps_text": texts[0],
        "attack": attacks[0],
        "train": shares["train"].plain(),
        "test": shares["test"].plain(),
        **newcombe(shares["train"], shares["test"]).plain(),
    }


def _corruptions(rows: Iterable[Row], rights: Mapping[Split, Mapping[int, bool]]) -> CorruptionSummary | None:
    by_kind: dict[str, dict[int, list[bool]]] = {}
    asked = ("corruption", "image", "predicted", "label")
    for corruption, image, predicted, label in zip(*columns(rows, CorruptionRow, *asked), strict=True):
        some = by_kind.setdefault(corruption, {})
        if image in some:
            raise _damaged(f"one row of image {image} under {corruption}", "two")
        some[image] = [answer == label for answer in predicted]  # at each severity
    if not by_kind:
        return None
    images = sorted(set().union(*by_kind.values()))
    clean = rights.get("test", {})
    measured: dict[str, Collection[int]] = {**by_kind, "none": clean}
    for name, found in measured.items():
        if missing := [image for image in images if image not in found]:
            raise _damaged(f"a row of image {missing[0]} under the corruption {name}", "none")
    kinds = {name: [some[image] for image in images] for name, some in by_kind.items()}
    each = [math.fsum(sum(hits[i]) / len(hits[i]) for hits in kinds.values()) / len(kinds) for i in range(len(images))]
    mean, untouched = _normal(each), _share(clean[image] for image in images)
    return {
        "images": len(images),
        "accuracy": mean,
        "clean": untouched.plain(),
        "drop": untouched.share - mean["mean"],
        "kinds": {name: _kind(hits) for name, hits in kinds.items()},
    }


def _kind(hits: Sequence[Sequence[bool]]) -> CorruptionKind:
    severities = [sum(column) / len(hits) for column in zip(*hits, strict=True)]
    return {"mean": math.fsum(severities) / len(severities), "severities": severities}


def _normal(values: Sequence[float]) -> NormalMean:
    """The mean of shares of independent images, with its normal interval, within [0,1]."""
    n = len(values)
    mean = math.fsum(values) / n
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n) if n > 1 else 1.0
    reach = float(scipy.special.ndtri(0.975)) * spread
    return {"mean": mean, "low": max(0.0, mean - reach), "high": min(1.0, mean + reach)}
