"""What a result must say of the images it stands on: how many, how they were chosen, how events were binned.

Plain values, as a cell keeps them; and the words for them, the same on a card, on the page and in a paragraph.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

__all__ = ["NOT_RECORDED", "Binning", "DataFacts", "data_options", "named_data", "words_of_data"]

NOT_RECORDED = "not recorded"
"""Of a cell of an older version."""


class Binning(TypedDict):
    """How the events of a sensor became a grid: what of them is one cell."""

    frames: int
    by: Literal["number", "time"]
    sensor: list[int]  # rows and columns
    cells: list[int]  # rows and columns of the grid into which the sensor's are put together


class DataFacts(TypedDict):
    """One split, as a network was trained or examined on it."""

    name: str
    samples: int
    whole: int | None  # of how many they were chosen; None: not known
    a_class: list[int]  # the fewest and the most samples of a class
    shape: list[int]  # of one sample; of events time is first
    values: str  # 'binary', 'counts', or how many levels a pixel has
    binning: Binning | None  # None of images, and of frames that were made elsewhere


_WHERE = ("root", "download")
"""Options of a data set that say where it lies, and not which it is."""


def data_options(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What a data set of a configuration has been asked for: frames, cells, a split."""
    return {name: value for name, value in spec.items() if name not in ("name", *_WHERE)}


def named_data(spec: Mapping[str, Any]) -> str:
    """A data set with what it has been asked for.

    >>> named_data({"name": "nmnist", "root": "data", "frames": 5, "by": "number", "binary": False, "size": None})
    'nmnist (frames 5, by number, not binary)'
    """
    told = [_option(name, value) for name, value in data_options(spec).items() if value is not None]
    name = str(spec.get("name", "data"))
    return f"{name} ({', '.join(told)})" if told else name


def _option(name: str, value: object) -> str:
    if isinstance(value, bool):
        return name if value else f"not {name}"
    return f"{name} {value}"


def words_of_data(facts: DataFacts | None, split: str) -> str:
    """Of one split, as on 'N-MNIST: 100 of 1,000 test samples, ...'; NOT_RECORDED without facts."""
    if facts is None:
        return f"the {split} data: {NOT_RECORDED}"
    return f"{facts['name']}: {_chosen(facts, split)}; {_seen(facts)}"


def _chosen(facts: DataFacts, split: str) -> str:
    least, most = facts["a_class"]
    a_class = f"{least:,} a class" if least == most else f"{least:,} to {most:,} a class"
    samples, whole = facts["samples"], facts["whole"]
    if whole is None:
        return f"{samples:,} {split} samples, {a_class}, how they were chosen is {NOT_RECORDED}"
    if samples == whole:
        return f"all {samples:,} {split} samples that were there, {a_class}"
    return f"{samples:,} of {whole:,} {split} samples, {a_class}, those of each class by a hash of their ids"


def _seen(facts: DataFacts) -> str:
    shape = "x".join(map(str, facts["shape"]))
    if len(facts["shape"]) == 3:
        return f"{shape}, {facts['values']}"
    kind = {"binary": "binary, a cell holds an event or none", "counts": "counts of events"}[facts["values"]]
    binning = facts["binning"]
    if binning is None:
        return f"grids {shape} over T = {facts['shape'][0]}, {kind}, framed elsewhere"
    sides = ["x".join(map(str, side)) for side in (binning["cells"], binning["sensor"])]
    cells = "the sensor's own" if sides[0] == sides[1] else f"of a sensor of {sides[1]}"
    by = "as many events each" if binning["by"] == "number" else "one length each"
    return f"T = {binning['frames']} frames by {binning['by']} ({by}), {sides[0]} cells, {cells}; {kind}"
