"""How sparse the gradients of a cell are on average: a mean over images of every measure at every place."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from spikeproof.lines import Lines
from spikeproof.metrics.summaries import GradientSummary, GradientTree
from spikeproof.rows import BatchNorm, GradientRow, Measures, Scalar

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
    """Of one row: its image, the depth of its site in the network, and its measures; what lies before the first layer
    is below 0."""

    image: int
    depth: int
    measures: Measures


Probed: TypeAlias = Mapping[Probe, Sequence[Seen]]
"""The rows of gradients of a cell, told apart once."""


_BEFORE = {"image": -2, "encoded": -1}
_NEEDED = ("site", "side", "scalar", "batchnorm", "image", "order", "summed")


def by_probe(rows: Iterable[GradientRow]) -> Probed:
    """Every gradient with what was seen of each image, in the order of the rows; weights have the measure
    `masked_share` too. Raises SpikeproofError where a row lacks a field."""
    lines: Lines[GradientRow] = rows if isinstance(rows, Lines) else Lines(rows)
    *places, images, orders, summed, masked = lines.columns((*_NEEDED, "masked_share"), None, frozenset(_NEEDED))
    of_weights = [{} if share is None else {"masked_share": share} for share in masked]
    found: dict[tuple[Any, ...], list[Seen]] = {}
    for place, image, order, measures, more in zip(
        zip(*places, strict=True), images, orders, summed, of_weights, strict=True
    ):
        seen = Seen(image, _BEFORE.get(place[0], order), {**measures, **more} if more else measures)
        found.setdefault(place, []).append(seen)
    return {Probe(*place): some for place, some in found.items()}


def means(probed: Probed) -> dict[Probe, dict[str, Mean]]:
    """The mean over images of every measure of every gradient."""
    return {probe: _means([one.measures for one in some]) for probe, some in probed.items()}


def by_image(probed: Probed, places: Collection[tuple[str, str]]) -> dict[tuple[str, str], dict[int, float]]:
    """(site, measure) -> image -> that measure of the cross-entropy gradient that enters the site, batch-norm in eval
    mode; an image of which it is undefined is left out."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    for site, measure in places:
        some = probed.get(Probe(site, "input", "ce", "eval"), [])
        values = [(one.image, one.measures[measure]) for one in some]
        found[site, measure] = {image: value for image, value in values if value is not None}
    return found


def sites(probed: Probed) -> dict[str, int]:
    """Site -> its `depth`, of where a gradient with respect to no weight was measured."""
    least: dict[str, int] = {}
    for probe, some in probed.items():
        if probe.side != "weight":
            here = min(one.depth for one in some)
            least[probe.site] = min(here, least.get(probe.site, here))
    return least


def summarise(rows: Iterable[GradientRow]) -> GradientTree:
    """The same as a tree, of gradients that enter a layer and those of weights."""
    tree: GradientTree = {}
    for probe, some in by_probe(rows).items():
        if probe.side != "output":
            tree.setdefault(probe.batchnorm, {}).setdefault(probe.site, {})[probe.scalar] = _place(some)
    return tree


def _place(some: Sequence[Seen]) -> GradientSummary:
    return {
        "order": some[0].depth,
        "images": len({one.image for one in some}),
        "undefined": sum(one.measures["l1"] == 0 for one in some),
        **{name: mean.value for name, mean in _means([one.measures for one in some]).items()},
    }


def _means(numbers: Sequence[Measures]) -> dict[str, Mean]:
    return {name: _mean([one[name] for one in numbers]) for name in numbers[0]}


def _mean(values: Sequence[float | None]) -> Mean:
    defined = [value for value in values if value is not None]
    mean = math.fsum(defined) / len(defined) if defined else None
    return Mean(mean, len(defined), len(values) - len(defined))
