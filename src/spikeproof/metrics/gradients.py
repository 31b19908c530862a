"""How sparse the gradients of a cell are on average: a mean over images of every measure at every place."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from spikeproof.lines import ABSENT, Lines, lacking
from spikeproof.metrics.summaries import GradientSummary, GradientTree
from spikeproof.rows import BatchNorm, GradientRow, Scalar

__all__ = ["Mean", "Probe", "Probed", "Seen", "by_image", "by_probe", "means", "sites", "summarise"]


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


class Seen(NamedTuple):
    """What was seen of one gradient: `images`, and beside them each measure of their rows. `depth` is that of its site
    in the network; what lies before the first layer is below 0."""

    depth: int
    images: list[int]
    measures: dict[str, list[float | None]]


Probed: TypeAlias = Mapping[Probe, Seen]
"""The rows of gradients of a cell, told apart once."""


_BEFORE = {"image": -2, "encoded": -1}
_PLACE = ("site", "side", "scalar", "batchnorm")
_NEEDED = frozenset({*_PLACE, "image", "order", "summed"})


def by_probe(rows: Iterable[GradientRow]) -> Probed:
    """Every gradient with what was seen of each image, in the order of the rows; weights have the measure
    `masked_share` too. Raises SpikeproofError where a row lacks a field, and where it lacks a measure that another of
    the same gradient has."""
    lines: Lines[GradientRow] = rows if isinstance(rows, Lines) else Lines(rows)
    *places, images, orders, masked = lines.columns((*_PLACE, "image", "order", "masked_share"), None, _NEEDED)
    measures = lines.inner("summed", _NEEDED)
    measures["masked_share"] = [ABSENT if share is None else share for share in masked]
    found: dict[tuple[Any, ...], list[int]] = {}
    for number, place in enumerate(zip(*places, strict=True)):
        found.setdefault(place, []).append(number)
    return {
        (probe := Probe(*place)): Seen(
            _BEFORE.get(probe.site, min(orders[number] for number in numbers)),
            [images[number] for number in numbers],
            _of_these(numbers, measures),
        )
        for place, numbers in found.items()
    }


def _of_these(numbers: Sequence[int], columns: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Of some rows, the columns that they have."""
    some = {name: [column[number] for number in numbers] for name, column in columns.items()}
    some = {name: values for name, values in some.items() if values.count(ABSENT) < len(values)}
    for name, values in some.items():
        if ABSENT in values:
            raise lacking(some, name)
    return some


def means(probed: Probed) -> dict[Probe, dict[str, Mean]]:
    """The mean over images of every measure of every gradient."""
    return {probe: _means(seen) for probe, seen in probed.items()}


def by_image(probed: Probed, places: Collection[tuple[str, str]]) -> dict[tuple[str, str], dict[int, float]]:
    """(site, measure) -> image -> that measure of the cross-entropy gradient that enters the site, batch-norm in eval
    mode; an image of which it is undefined is left out."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    for site, measure in places:
        seen = probed.get(Probe(site, "input", "ce", "eval"))
        values = zip(seen.images, seen.measures[measure], strict=True) if seen else ()
        found[site, measure] = {image: value for image, value in values if value is not None}
    return found


def sites(probed: Probed) -> dict[str, int]:
    """Site -> its `depth`, of where a gradient with respect to no weight was measured."""
    least: dict[str, int] = {}
    for probe, seen in probed.items():
        if probe.side != "weight":
            least[probe.site] = min(seen.depth, least.get(probe.site, seen.depth))
    return least


def summarise(rows: Iterable[GradientRow]) -> GradientTree:
    """The same as a tree, of gradients that enter a layer and those of weights."""
    tree: GradientTree = {}
    for probe, seen in by_probe(rows).items():
        if probe.side != "output":
            tree.setdefault(probe.batchnorm, {}).setdefault(probe.site, {})[probe.scalar] = _place(seen)
    return tree


def _place(seen: Seen) -> GradientSummary:
    return {
        "order": seen.depth,
        "images": len(set(seen.images)),
        "undefined": seen.measures["l1"].count(0),
        **{name: mean.value for name, mean in _means(seen).items()},
    }


def _means(seen: Seen) -> dict[str, Mean]:
    return {name: _mean(values) for name, values in seen.measures.items()}


def _mean(values: Sequence[float | None]) -> Mean:
    defined = [value for value in values if value is not None]
    mean = math.fsum(defined) / len(defined) if defined else None
    return Mean(mean, len(defined), len(values) - len(defined))
