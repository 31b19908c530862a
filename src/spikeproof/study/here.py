"""The engine of this process: one cell after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence

from spikeproof.store.store import Store
from spikeproof.study.config import CellConfig
from spikeproof.study.executor import Outcome, Queue, attempt
from spikeproof.study.trained import Machine, Reader

__all__ = ["Here"]


class Here:
    """Keeps the images that it read last, which the cells of a study mostly share."""

    at_once = 1

    def run(self, cells: Sequence[CellConfig], store: Store, machine: Machine) -> Generator[Outcome, None, None]:
        queue, read = Queue(deque(cells)), Reader()
        while (task := queue.next()) is not None:
            config, waits = task
            answer = attempt(config, waits, store, machine, read)
            yield from queue.outcome(config, answer, last=waits and store.patience is not None)
