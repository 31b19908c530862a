"""How sparse the gradients of a cell are on average: a mean over images of every measure at every place."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from spikeproof.metrics.summaries import GradientSummary, GradientTree
from spikeproof.rows import BatchNorm, GradientRow, Measures, Scalar

__all__ = ["Mean", "Probe", "by_image", "depth", "means", "summarise"]


class Probe(NamedTuple):
    """One gradient: at which site, on which side of it ('input', 'output', 'weight'), of which scalar, and with which
    statistics in the batch-norms."""

    site: str
    side: str
    scalar: Scalar
    batchnorm: BatchNorm


class Mean(NamedTuple):
    """A mean over `images`; `undefined` more images had no value. Without any image the value is None."""

    value: float | None
    images: int
    undefined: int


def means(rows: Iterable[GradientRow]) -> dict[Probe, dict[str, Mean]]:
    """The mean over images of every measure of every probe; weights have the measure `masked_share` too."""
    return {probe: _means(some) for probe, some in _by_probe(rows).items()}


def by_image(
    rows: Iterable[GradientRow], places: Collection[tuple[str, str]]
) -> dict[tuple[str, str], dict[int, float]]:
    """(site, measure) -> image -> that measure of the cross-entropy gradient that enters the site, batch-norm in eval
    mode; an image of which it is undefined is left out."""
    sites = {site for site, _ in places}
    found: dict[tuple[str, str], dict[int, float]] = {place: {} for place in places}
    for row in rows:
        if row["site"] in sites and (row["side"], row["scalar"], row["batchnorm"]) == ("input", "ce", "eval"):
            for place in places:
                if place[0] == row["site"] and (value := row["summed"][place[1]]) is not None:
                    found[place][row["image"]] = value
    return found


def summarise(rows: Iterable[GradientRow]) -> GradientTree:
    """The same as a tree, of gradients that enter a layer and those of weights."""
    tree: GradientTree = {}
    for probe, some in _by_probe(rows).items():
        if probe.side != "output":
            tree.setdefault(probe.batchnorm, {}).setdefault(probe.site, {})[probe.scalar] = _place(some)
    return tree


def depth(row: GradientRow) -> int:
    """Of the row's site in the network; what lies before the first layer is below 0."""
    return {"image": -2, "encoded": -1}.get(row["site"], row["order"])


def _by_probe(rows: Iterable[GradientRow]) -> dict[Probe, list[GradientRow]]:
    found: dict[Probe, list[GradientRow]] = {}
    for row in rows:
        found.setdefault(Probe(row["site"], row["side"], row["scalar"], row["batchnorm"]), []).append(row)
    return found


def _place(rows: Sequence[GradientRow]) -> GradientSummary:
    return {
        "order": depth(rows[0]),
        "images": len({row["image"] for row in rows}),
        "undefined": sum(row["summed"]["l1"] == 0 for row in rows),
        **{name: mean.value for name, mean in _means(rows).items()},
    }


def _means(rows: Sequence[GradientRow]) -> dict[str, Mean]:
    numbers = [_measures(row) for row in rows]
    return {name: _mean([one[name] for one in numbers]) for name in numbers[0]}


def _measures(row: GradientRow) -> Measures:
    return {**row["summed"], "masked_share": row["masked_share"]} if row["side"] == "weight" else row["summed"]


def _mean(values: Sequence[float | None]) -> Mean:
    defined = [value for value in values if value is not None]
    mean = math.fsum(defined) / len(defined) if defined else None
    return Mean(mean, len(defined), len(values) - len(defined))
