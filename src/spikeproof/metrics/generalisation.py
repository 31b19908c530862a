"""Generalisation, three ways: from training images to others, the same under attack, and to corrupted images.

Pure functions of the rows of a cell (see `spikeproof.measures.generalisation` for those of the last two).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from spikeproof.errors import SpikeproofError
from spikeproof.metrics._intervals import Interval, clopper_pearson, newcombe

__all__ = ["summarise"]

Row = Mapping[str, Any]

_Z = 1.959963984540054
"""The two-sided 95 % point of the normal distribution."""


def summarise(rows: Iterable[Row]) -> dict[str, Any]:
    """Every number on generalisation that the rows of one cell hold, as plain JSON; None where it was not measured.

    `clean`: `train_test` and `train_validation`, clean accuracy on training images less that on others, as gap, low,
    high. `robust`: the same of robust accuracy under one attack and budget, with the two accuracies `train` and `test`.
    `corruptions`: `accuracy`, the mean over corruptions, severities and images, with a normal interval over images;
    `clean`, on the same images; `drop`, the one less the other; `kinds`, each corruption's `mean` and the five
    `severities`. Gaps have Newcombe's interval: over images, not over training seeds. Raises SpikeproofError where an
    image has two rows of a kind, or lacks one that others have.
    """
    rows = list(rows)
    return {"clean": _clean(rows), "robust": _robust(rows), "corruptions": _corruptions(rows)}


def _right(rows: Iterable[Row]) -> dict[str, dict[int, bool]]:
    """split -> image -> whether it is classified as labelled."""
    found: dict[str, dict[int, bool]] = {}
    for row in rows:
        images = found.setdefault(row["split"], {})
        if row["image"] in images:
            raise _damaged(f"one row of kind {row['kind']} for image {row['image']}", "two")
        images[row["image"]] = row["predicted"] == row["label"] and not row.get("fooled", False)
    return found


def _damaged(expected: str, got: object) -> SpikeproofError:
    return SpikeproofError(expected, got, mend="the rows are damaged: run the cell anew")


def _share(right: Iterable[bool]) -> Interval:
    right = list(right)
    return clopper_pearson(sum(right), len(right))


def _clean(rows: Sequence[Row]) -> dict[str, Any]:
    shares = {split: _share(r.values()) for split, r in _right(row for row in rows if row["kind"] == "clean").items()}
    return {
        f"train_{other}": newcombe(shares["train"], shares[other])._asdict()
        if {"train", other} <= shares.keys() else None
        for other in ("test", "validation")
    }  # fmt: skip


def _robust(rows: Sequence[Row]) -> dict[str, Any] | None:
    some = [row for row in rows if row["kind"] == "robust"]
    if not some:
        return None
    shares = {split: _share(right.values()) for split, right in _right(some).items()}
    if shares.keys() != {"train", "test"}:
        raise _damaged("attacked images of the splits train and test", sorted(shares))
    return {
        **{field: some[0][field] for field in ("eps", "eps_text", "attack")},
        **{split: share._asdict() for split, share in shares.items()},
        **newcombe(shares["train"], shares["test"])._asdict(),
    }


def _corruptions(rows: Sequence[Row]) -> dict[str, Any] | None:
    by_kind: dict[str, dict[int, Row]] = {}
    for row in rows:
        if row["kind"] == "corruption":
            some = by_kind.setdefault(row["corruption"], {})
            if row["image"] in some:
                raise _damaged(f"one row of image {row['image']} under {row['corruption']}", "two")
            some[row["image"]] = row
    if not by_kind:
        return None
    images = sorted(set().union(*by_kind.values()))
    clean = {row["image"]: row for row in rows if row["kind"] == "clean" and row["split"] == "test"}
    for name, some in {**by_kind, "none": clean}.items():
        if missing := [image for image in images if image not in some]:
            raise _damaged(f"a row of image {missing[0]} under the corruption {name}", "none")
    kinds = {name: [_severities(some[image]) for image in images] for name, some in by_kind.items()}
    each = [math.fsum(sum(hits[i]) / len(hits[i]) for hits in kinds.values()) / len(kinds) for i in range(len(images))]
    mean, untouched = _normal(each), _share(clean[image]["predicted"] == clean[image]["label"] for image in images)
    return {
        "images": len(images),
        "accuracy": mean,
        "clean": untouched._asdict(),
        "drop": untouched.share - mean["mean"],
        "kinds": {name: _kind(hits) for name, hits in kinds.items()},
    }


def _severities(row: Row) -> list[bool]:
    return [predicted == row["label"] for predicted in row["predicted"]]


def _kind(hits: Sequence[Sequence[bool]]) -> dict[str, Any]:
    severities = [sum(column) / len(hits) for column in zip(*hits, strict=True)]
    return {"mean": math.fsum(severities) / len(severities), "severities": severities}


def _normal(values: Sequence[float]) -> dict[str, float]:
    """The mean of shares of independent images, with its normal interval, within [0,1]."""
    n = len(values)
    mean = math.fsum(values) / n
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n) if n > 1 else 1.0
    return {"mean": mean, "low": max(0.0, mean - _Z * spread), "high": min(1.0, mean + _Z * spread)}
