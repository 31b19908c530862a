"""A study on two workers whose command is killed ten times at random events, then finished: the undisturbed rows.

Run as `python kills.py FOLDER`, with TRACE in the environment. Commands are forked from a process that has imported
everything and never run two threads, and fork their workers in turn, so that a start costs nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import tinycell
import torch

from spikeproof.data.digits import Digits
from spikeproof.store.store import Store
from spikeproof.study import workers as executors
from spikeproof.study.config import Study
from spikeproof.study.here import Here
from spikeproof.study.run import Machine
from spikeproof.training.train import Recipe

KILLS = 10

CELLS = Study(
    "killed",
    {
        **tinycell.tiny(train_images=40, test_images=10, model=tinycell.SMALLEST),
        "encoder": {"name": "direct"},
        "recipe": {"epochs": 6, "batch_size": 16, "validation_share": 0.25},
        "defence": {"name": "tinycell:Step"},
        "evaluations": [{"name": "pixels", "eps": [0.1], "attacks": {"f": {"name": "tinycell:Fgsm"}}, "batch_size": 2}],
        "gradients": {"images": 2, "weight_images": 1, "batch_size": 1, "layers": False},
    },
    {"pool": {"max": {}, "avg": {"model.pool": "avg"}}},
    [0, 1],
).cells()


def start(root: Path, workers: int) -> int:
    """A command in a process of its own; returns its number."""
    child = os.fork()
    if child:
        return child
    try:
        engine = executors.Workers(workers) if workers > 1 else Here()
        outcomes = list(engine.run(CELLS, Store(root), Machine(progress=False)))
        os._exit(int(any(outcome.error for outcome in outcomes)))
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    Digits().load("test")
    Recipe().build([torch.zeros(1, requires_grad=True)])  # the first optimiser imports a second's worth of torch
    trace = Path(os.environ[tinycell.TRACE])
    executors._context = lambda: multiprocessing.get_context("fork")
    assert ended(start(folder / "whole", 1)) == 0
    expected, chance = tinycell.numbers(folder / "whole"), random.Random(3)
    assert len(expected) == len(CELLS) * len(tinycell.NUMBERS)
    killed = 0
    root = folder / "killed"
    for _ in range(KILLS):
        until = len(tinycell.events(trace)) + chance.randint(1, 6)
        child = start(root, 2)
        while len(tinycell.events(trace)) < until and os.waitpid(child, os.WNOHANG) == (0, 0):
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
        killed += ended(child) == -signal.SIGKILL
    assert killed == KILLS, f"only {killed} of {KILLS} kills met a command at work: too little work"
    assert ended(start(root, 2)) == 0
    assert tinycell.numbers(root) == expected
    assert not list(root.glob("*/*.partial"))
    print(f"killed {killed} times")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
