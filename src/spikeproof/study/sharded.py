"""The engine of cells that are divided: every cell by several workers at once, one cell after the other."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from spikeproof.store.store import Store
from spikeproof.study.config import CellConfig
from spikeproof.study.executor import Outcome
from spikeproof.study.trained import Machine
from spikeproof.study.workers import Workers

__all__ = ["Sharded"]


@dataclass(frozen=True)
class Sharded:
    """`shards` workers at each cell, which other commands at the same folder may join; one that dies is not missed."""

    shards: int
    at_once = 1

    def run(self, cells: Sequence[CellConfig], store: Store, machine: Machine) -> Generator[Outcome, None, None]:
        sharing = replace(machine, shares=True)
        for config in cells:
            with closing(Workers(self.shards).run([config] * self.shards, store, sharing)) as workers:
                outcomes = list(workers)
            whole = [outcome for outcome in outcomes if outcome.cell is not None]
            failed = [outcome for outcome in outcomes if outcome.error is not None]
            best = (whole or failed or outcomes)[0]
            yield best._replace(seconds=max(outcome.seconds for outcome in outcomes))
