"""What it costs to hand cells to workers that a scheduler starts, against `--engine local`: the same study, in turns.

`python -m benchmarks.engines --workers 4 --rounds 3`: seconds from the first command to the last cell, each round one
of `spikeproof study --workers N` and one of N times `spikeproof worker` on a planned folder, whose planning counts; by
the wall, and of the processor in all processes, which on full cores says the same and hears less of what else runs.
Linux.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import yaml

__all__: list[str] = []


def study(cells: int, epochs: int) -> dict[str, object]:
    """Cells on digits, each of some seconds of one core."""
    base = {
        "data": {"name": "digits"},
        "model": {"name": "small_sew_resnet", "width": 8},
        "steps": 4,
        "recipe": {"epochs": epochs, "batch_size": 32},
        "evaluations": [{"name": "pixels", "eps": [0.1], "attacks": {"pgd": {"name": "pgd"}}, "images": 100}],
        "gradients": {"images": 8, "weight_images": 2},
    }
    return {"title": "engines", "base": base, "seeds": list(range(cells))}


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "spikeproof", *map(str, words)]


def local(file: Path, root: Path, workers: int) -> None:
    quiet = ("--threads", 1, "--quiet")
    subprocess.run(command("study", file, "--out", root, "--workers", workers, *quiet), check=True, capture_output=True)


def handed(file: Path, root: Path, workers: int) -> None:
    """Planned by one command, and done by workers that know only the folder."""
    plan = command("study", file, "--out", root, "--plan", "--threads", 1, "--quiet")
    subprocess.run(plan, check=True, capture_output=True)
    words = command("worker", root, "--wait", 600)
    crew = [subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(workers)]
    assert {one.wait() for one in crew} == {0}


def start(file: Path, root: Path) -> float:
    """Seconds from the start of a worker to its first batch, which is one of training or of rows, on the disk."""
    plan = command("study", file, "--out", root, "--plan", "--threads", 1, "--quiet")
    subprocess.run(plan, check=True, capture_output=True)
    began = time.perf_counter()
    worker = subprocess.Popen(command("worker", root), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(root.glob("models/*.partial/owner")) and worker.poll() is None:
        time.sleep(0.01)
    seconds = time.perf_counter() - began
    worker.terminate()
    worker.wait()
    return seconds


def timed(run: Callable[[], None]) -> tuple[float, float]:
    """Seconds of the wall, and of the processor in every process that was started, however indirectly."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: what outlives its parent is waited for here
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    run()
    wall = time.perf_counter() - began
    with suppress(ChildProcessError):
        while True:
            os.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cells", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    taken: dict[str, list[tuple[float, float]]] = {"local": [], "workers": []}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "engines.yaml"
        file.write_text(yaml.safe_dump(study(options.cells, options.epochs)), encoding="utf-8")
        starts = [start(file, Path(folder) / f"start-{number}") for number in range(options.rounds)]
        print(f"start of a worker to its first cell's training: {statistics.median(starts):.1f} s", flush=True)
        for number in range(options.rounds):
            for name, engine in (("local", local), ("workers", handed)):
                root = Path(folder) / f"{name}-{number}"
                wall, processor = timed(partial(engine, file, root, options.workers))
                taken[name].append((wall, processor))
                load = os.getloadavg()[0]
                print(f"round {number}, {name}: {wall:.1f} s, processor {processor:.1f} s; load {load:.1f}", flush=True)
    for which, name in enumerate(("wall", "processor")):
        ratios = [theirs[which] / ours[which] for ours, theirs in zip(taken["local"], taken["workers"], strict=True)]
        print(f"workers over local, {name}: median {statistics.median(ratios):.3f} of {[round(r, 3) for r in ratios]}")


if __name__ == "__main__":
    main()
