"""A cell, killed before one of its operations on the disk, then run again: each in a process of its own.

Run as `python crashes.py FOLDER COUNT`: COUNT seeded moments and the last few, and one undisturbed run to compare with.
Processes are forked from one that has imported everything and has never run two threads.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import tinycell
import torch

from spikeproof.data.digits import Digits
from spikeproof.store.store import Store
from spikeproof.study.config import cell_from
from spikeproof.study.run import Machine, run_cell
from spikeproof.training.train import Recipe

CELL = cell_from(
    {
        **tinycell.tiny(train_images=20, test_images=6, model=tinycell.SMALLEST),
        "recipe": {"epochs": 2, "batch_size": 8, "validation_share": 0.5},
        "evaluations": [{"name": "pixels", "eps": [0.1], "attacks": {"fgsm": {"name": "fgsm"}}, "batch_size": 2}],
        "gradients": {"images": 2, "weight_images": 1, "batch_size": 1, "layers": False},
    }
)


def _deadly(root: Path, kill_at: int, seen: Path) -> None:
    """From now on, count what is done to the disk under `root`, and die before operation number `kill_at`."""
    count = 0

    def operation() -> None:
        nonlocal count
        count += 1
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        with os.fdopen(os.open(seen, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w") as file:
            file.write(str(count))

    def hook(event: str, given: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(given[1], str) and given[1][0] in "wax"
        if (writes or event in ("os.rename", "os.remove", "os.mkdir")) and str(root) in str(given[0]):
            operation()

    real = os.fsync

    def torn(file: int) -> None:
        if count + 1 == kill_at and (size := os.fstat(file).st_size) > 9:
            os.ftruncate(file, size - 9)  # not all of it has reached the disk
        operation()
        real(file)

    sys.addaudithook(hook)
    os.fsync = torn


def run(root: Path, kill_at: int = 0) -> tuple[int, int]:
    """The exit code of a process that runs the cell, and how many operations it got through."""
    seen = root.with_suffix(".count")
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return code, int(seen.read_text(encoding="utf-8")) if seen.exists() else 0
    try:
        _deadly(root, kill_at, seen)
        run_cell(CELL, Store(root), Machine(progress=False))
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def main(folder: Path, count: int) -> None:
    torch.set_num_threads(1)
    Digits().load("test")  # what it imports takes longer than the whole cell
    Recipe().build([torch.zeros(1, requires_grad=True)])  # the first optimiser imports a second's worth of torch
    code, operations = run(folder / "whole")
    assert code == 0
    expected = tinycell.numbers(folder / "whole")
    assert len(expected) == len(tinycell.NUMBERS)
    files = sorted(path.name for path in (folder / "whole").glob("cells/*/*"))
    last = range(operations - 3, operations + 1)
    moments = sorted({*random.Random(0).sample(range(1, operations), min(count, operations - 1)), *last})
    for moment in moments:
        root = folder / f"killed-{moment}"
        code, got = run(root, moment)
        assert (code, got) == (-signal.SIGKILL, moment - 1), f"{moment} of {operations}: {code} after {got}"
        code, _ = run(root)
        assert code == 0, f"the run after one that was killed at {moment} of {operations} failed"
        assert tinycell.numbers(root) == expected, f"{moment} of {operations}"
        assert sorted(path.name for path in root.glob("cells/*/*")) == files, f"{moment} of {operations}"
        kept = sorted(path.name for path in root.glob("models/*/*"))
        assert kept == ["model.safetensors", "model.sha256", "training.json"], f"{moment} of {operations}"
        assert not list(root.glob("*/*.partial")), f"{moment} of {operations}"
    print(f"{len(moments)} of {operations}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
