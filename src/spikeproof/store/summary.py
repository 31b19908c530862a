"""What a cell's summary.json holds: what its rows say, and where they come from; and its seal, a hash of the rest.

A seal finds what was changed by accident or by hand; who means to deceive can make another one, but not rows that give
another summary.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import NotRequired, TypedDict, cast

from spikeproof.data_facts import DataFacts
from spikeproof.metrics.summaries import Results

__all__ = ["CellSummary", "NetworkFacts", "Provenance", "Written", "same_seal", "sealed", "unsealed"]


NetworkFacts = TypedDict(
    "NetworkFacts",
    {
        "class": str,  # what the user's function makes
        "weights": str,  # digest of its tensors
        "loaded": str | None,  # what was said when a file of weights was read; None where none was given
        "rule": str,  # whose gradient an attack follows where the configuration names no rule
        "feed": str,  # how it gets its input
        "notes": list[str],  # what a reader should know of the wrapping
        "frameworks": dict[str, str | None],  # and their versions
    },
)
"""What was seen of a network of one's own."""


class Provenance(TypedDict, total=False):
    """Versions, machine and costs. A cell of an older version may lack one of them."""

    spikeproof: str
    torch: str
    numpy: str
    python: str
    machine: str
    threads: int
    code: str  # of the sources that decide the rows
    scan: str
    date: str  # year, month, day
    parameters: int
    best_epoch: int | None  # the last three of the training; None where weights were given
    train_seconds: float | None  # None also where it was stopped and went on
    trained_on: str | None
    data: dict[str, str]  # digests of its images, 'train' and 'test'
    samples: dict[str, DataFacts]  # what is to be said of them, by the same names; of a split it looked at alone
    network: NetworkFacts  # of a network of one's own alone
    evaluate_seconds: float


class Written(TypedDict):
    """What is known when the last row is there."""

    provenance: Provenance
    results: Results


class CellSummary(Written):
    """With the name of the cell, and the sha256 of its other files by their names."""

    key: str
    files: dict[str, str]
    seal: NotRequired[str]  # a cell of an older version has none


def sealed(summary: Mapping[str, object]) -> bytes:
    """The text of summary.json, its seal last."""
    text = _text(summary)
    return f"{text[:-2]}{_SEAL}{_digest(text)}{_END}".encode()


def unsealed(data: bytes) -> CellSummary:
    """What a summary.json says. ValueError where it is no JSON object or not as it was sealed."""
    summary = json.loads(data)
    if not isinstance(summary, dict):
        raise ValueError("summary.json is no object")
    if "seal" not in summary:
        if summary.keys() != _UNSEALED:
            raise ValueError("summary.json has lost its seal")
    else:
        rest, _, seal = data.decode().rpartition(_SEAL)
        if seal != _digest(f"{rest}\n}}") + _END:
            raise ValueError("summary.json has changed since it was written")
    return cast(CellSummary, summary)


def same_seal(summary: CellSummary) -> bool:
    """Whether a summary that was read elsewhere, as from a packed cell, is as it was sealed."""
    rest = {name: value for name, value in summary.items() if name != "seal"}
    return summary["seal"] == _digest(_text(rest)) if "seal" in summary else rest.keys() == _UNSEALED


_UNSEALED = {"key", "provenance", "results", "files"}
"""What a summary of a version without seals has, and nothing else: it is none that has lost its seal."""

_SEAL, _END = ',\n "seal": "', '"\n}\n'


def _text(summary: Mapping[str, object]) -> str:
    return json.dumps(summary, indent=1)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
