"""Two processes at one cell whose locks do not lock, at random distances: the cell is whole, or both have failed.

Run as `python unlocked.py FOLDER TRIALS KIND`: 'unseen', where a run cannot know that its locks do not lock; 'flock',
where the system's do nothing and a run finds out, so that none may fail. Processes are forked from one that has
imported everything and has never run two threads.
"""

from __future__ import annotations

import fcntl
import os
import random
import sys
import time
import traceback
from contextlib import nullcontext
from pathlib import Path

import tinycell
import torch
from crashes import CELL

from spikeproof.data.digits import Digits
from spikeproof.errors import SpikeproofError
from spikeproof.store.store import Store
from spikeproof.study.run import Machine, run_cell
from spikeproof.training.train import Recipe

FINISHED, FAILED, BROKEN = 0, 1, 2


class Unlocked:
    """A lock that knows of nobody."""

    def check(self) -> None:
        pass


def start(root: Path, wait: float = 0.0) -> int:
    """A process that runs the cell after `wait` seconds; returns its number."""
    child = os.fork()
    if child:
        return child
    try:
        time.sleep(wait)
        cell = run_cell(CELL, Store(root), Machine(progress=False))
        os._exit(FINISHED if cell.damage() is None else BROKEN)
    except SpikeproofError:
        os._exit(FAILED)
    except BaseException:
        traceback.print_exc()
        os._exit(BROKEN)


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder: Path, trials: int, kind: str) -> None:
    torch.set_num_threads(1)
    Digits().load("test")
    Recipe().build([torch.zeros(1, requires_grad=True)])  # the first optimiser imports a second's worth of torch
    if kind == "unseen":
        Store.lock = lambda *_, **__: nullcontext(Unlocked())
    else:
        fcntl.flock = lambda *_: None
    before = time.perf_counter()
    assert ended(start(folder / "whole")) == FINISHED
    takes, chance = time.perf_counter() - before, random.Random(5)
    expected, met = tinycell.numbers(folder / "whole"), 0
    for trial in range(trials):
        root = folder / f"trial-{trial}"
        codes = [ended(one) for one in [start(root), start(root, chance.uniform(0, takes))]]
        assert BROKEN not in codes, f"trial {trial}: {codes}"
        assert kind == "unseen" or codes == [FINISHED, FINISHED], f"trial {trial}: {codes}"
        met += FAILED in codes or kind != "unseen"
        found = tinycell.numbers(root)
        assert found == expected or (not found and codes == [FAILED, FAILED]), f"trial {trial}: {codes}"
        assert ended(start(root)) == FINISHED, f"the run after trial {trial}, {codes}"
        assert tinycell.numbers(root) == expected, f"the run after trial {trial}, {codes}"
    print(f"{met} of {trials} met")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
