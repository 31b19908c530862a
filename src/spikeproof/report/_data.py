"""What data a cell's numbers stand on, in words; and in what those of several cells differ, which are not compared.

Two cells are compared where their test data have one digest: the same samples, in the same frames and cells. How an
older cell's were chosen is not recorded, but its digest is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from spikeproof.data_facts import NOT_RECORDED, DataFacts, data_options, named_data, words_of_data
from spikeproof.report._summary import Summary
from spikeproof.report._text import listed

__all__ = ["by_data", "data_key", "data_labels", "data_name", "data_words", "difference", "facts_of"]


def facts_of(cell: Summary, split: str) -> DataFacts | None:
    """None of a cell of an older version, and of a split that it did not look at."""
    return cell.provenance.get("samples", {}).get(split)


def data_words(cell: Summary) -> list[str]:
    """A line for each split that it saw, or one that nothing is recorded."""
    found = cell.provenance.get("samples", {})
    return [words_of_data(facts, split) for split, facts in found.items()] or [f"samples and binning: {NOT_RECORDED}"]


def data_key(cell: Summary) -> str:
    """The same of cells with the same test data."""
    return cell.provenance.get("data", {}).get("test") or json.dumps(_options(cell), sort_keys=True, default=str)


def data_name(cell: Summary) -> str:
    """The data set with its options, 'nmnist (frames 5, by number, binary, size 17)'."""
    return named_data(cell.config.get("data") or {})


def by_data(cells: Sequence[Summary]) -> list[list[Summary]]:
    """The cells in groups that can be compared, in the order in which they come."""
    groups: dict[str, list[Summary]] = {}
    for cell in cells:
        groups.setdefault(data_key(cell), []).append(cell)
    return list(groups.values())


def data_labels(cells: Sequence[Summary]) -> dict[str, str]:
    """Of each `data_key` the shortest name that tells it from the others."""
    first = [group[0] for group in by_data(cells)]
    for named in (lambda cell: cell.setting("data", "name") or "data", data_name, _whole_name):
        names = [named(cell) for cell in first]
        if len(set(names)) == len(first):
            break
    return dict(zip(map(data_key, first), names, strict=True))


def _whole_name(cell: Summary) -> str:
    return f"{data_name(cell)}, {_options(cell)['test samples']} test samples, digest {data_key(cell)[:8]}"


def difference(cells: Sequence[Summary]) -> str:
    """In what the test data of cells differ, one of each group, such as 'binary: True and False'."""
    options = [_options(cell) for cell in cells]
    said = []
    for name in dict.fromkeys(name for one in options for name in one):
        values = list(dict.fromkeys(str(one.get(name, "none")) for one in options))
        if len(values) > 1:
            said.append(f"{name}: {listed(values)}")
    return "; ".join(said) or "in content, their digests: " + listed(list(dict.fromkeys(map(data_key, cells))))


def _options(cell: Summary) -> dict[str, Any]:
    """What says which data they are; where they lie does not."""
    spec, facts = cell.config.get("data") or {}, facts_of(cell, "test")
    count = cell.config.get("test_images") if facts is None else facts["samples"]
    return {"data": spec.get("name"), **data_options(spec), "test samples": "all" if count is None else count}
