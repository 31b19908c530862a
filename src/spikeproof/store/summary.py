"""What a cell's summary.json holds: what its rows say, and where they come from."""

from __future__ import annotations

from typing import TypedDict

from spikeproof.metrics.summaries import Results

__all__ = ["CellSummary", "Provenance", "Written"]


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
    evaluate_seconds: float


class Written(TypedDict):
    """What is known when the last row is there."""

    provenance: Provenance
    results: Results


class CellSummary(Written):
    """With the name of the cell, and the sha256 of its other files by their names."""

    key: str
    files: dict[str, str]
