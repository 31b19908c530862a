"""Generalisation, three ways: from training images to others, the same under attack, and to corrupted images.

Pure functions of the rows of a cell (see `spikeproof.measures.generalisation` for those of the last two).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

import scipy  # its functions take half a second to import, and do so when they are first asked

from spikeproof.errors import SpikeproofError
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
from spikeproof.rows import CleanRow, CorruptionRow, RobustRow, Row, Split, of_kind

__all__ = ["summarise"]


def summarise(rows: Iterable[Row]) -> GeneralisationSummary:
    """Every number on generalisation that the rows of one cell hold; None where it was not measured.

    Raises SpikeproofError where an image has two rows of a kind, or lacks one that others have.
    """
    rows = list(rows)
    clean = of_kind(rows, CleanRow)
    return {
        "clean": _clean(clean),
        "robust": _robust(of_kind(rows, RobustRow)),
        "corruptions": _corruptions(of_kind(rows, CorruptionRow), clean),
    }


def _right(rows: Iterable[CleanRow] | Iterable[RobustRow]) -> dict[Split, dict[int, bool]]:
    """split -> image -> whether it is classified as labelled."""
    found: dict[Split, dict[int, bool]] = {}
    for row in rows:
        images = found.setdefault(row["split"], {})
        if row["image"] in images:
            raise _damaged(f"one row of kind {row['kind']} for image {row['image']}", "two")
        fooled = row["kind"] == "robust" and row["fooled"]
        images[row["image"]] = row["predicted"] == row["label"] and not fooled
    return found


def _damaged(expected: str, got: object) -> SpikeproofError:
    return SpikeproofError(expected, got, mend="the rows are damaged: run the cell anew")


def _share(right: Iterable[bool]) -> Interval:
    right = list(right)
    return clopper_pearson(sum(right), len(right))


def _clean(rows: Sequence[CleanRow]) -> CleanGaps:
    shares = {split: _share(right.values()) for split, right in _right(rows).items()}

    def gap(other: Split) -> Gap | None:
        return newcombe(shares["train"], shares[other]).plain() if {"train", other} <= shares.keys() else None

    return {"train_test": gap("test"), "train_validation": gap("validation")}


def _robust(rows: Sequence[RobustRow]) -> RobustGap | None:
    if not rows:
        return None
    shares = {split: _share(right.values()) for split, right in _right(rows).items()}
    if shares.keys() != {"train", "test"}:
        raise _damaged("attacked images of the splits train and test", sorted(shares))
    first = rows[0]
    return {
        "eps": first["eps"],
        "eps_text": first["eps_text"],
        "attack": first["attack"],
        "train": shares["train"].plain(),
        "test": shares["test"].plain(),
        **newcombe(shares["train"], shares["test"]).plain(),
    }


def _corruptions(rows: Sequence[CorruptionRow], clean_rows: Sequence[CleanRow]) -> CorruptionSummary | None:
    by_kind: dict[str, dict[int, CorruptionRow]] = {}
    for row in rows:
        some = by_kind.setdefault(row["corruption"], {})
        if row["image"] in some:
            raise _damaged(f"one row of image {row['image']} under {row['corruption']}", "two")
        some[row["image"]] = row
    if not by_kind:
        return None
    images = sorted(set().union(*by_kind.values()))
    clean = {row["image"]: row["predicted"] == row["label"] for row in clean_rows if row["split"] == "test"}
    measured: dict[str, Collection[int]] = {**by_kind, "none": clean}
    for name, found in measured.items():
        if missing := [image for image in images if image not in found]:
            raise _damaged(f"a row of image {missing[0]} under the corruption {name}", "none")
    kinds = {name: [_severities(some[image]) for image in images] for name, some in by_kind.items()}
    each = [math.fsum(sum(hits[i]) / len(hits[i]) for hits in kinds.values()) / len(kinds) for i in range(len(images))]
    mean, untouched = _normal(each), _share(clean[image] for image in images)
    return {
        "images": len(images),
        "accuracy": mean,
        "clean": untouched.plain(),
        "drop": untouched.share - mean["mean"],
        "kinds": {name: _kind(hits) for name, hits in kinds.items()},
    }


def _severities(row: CorruptionRow) -> list[bool]:
    return [predicted == row["label"] for predicted in row["predicted"]]


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
