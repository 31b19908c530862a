"""`python -m benchmarks.past`: what an attack loses that looks at less of the time.

The same APGD, from the same start, on the six networks of the demo and on two of them with LIF neurons, by three
gradients: through all time steps; detached from the past, that is with `through_time=False`, so that a spike's gradient
reaches the input of its own step alone; and of the network run over fewer steps, whose points the whole network then
judges (a pass costs that share of a whole one; also with as many more steps as that buys). Networks are trained by the
demo's recipe and kept in `--out`. Minutes on one core. Prints the table of `docs/performance.md`, and writes it there.
"""

from __future__ import annotations

import argparse
import datetime
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.page import processor, written
from spikeproof.attacks.apgd import APGD
from spikeproof.commands._given import study_file
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluation.judge import Case, outcomes
from spikeproof.losses import margin
from spikeproof.rules.atan import ATan
from spikeproof.store.store import Store
from spikeproof.study.config import CellConfig, load_study
from spikeproof.study.run import some_images
from spikeproof.study.trained import Machine, load_images, trained_victim
from spikeproof.tensors import exact
from spikeproof.threats.linf import Linf
from spikeproof.victims.batch import Batch
from spikeproof.victims.victim import Victim, borrowed

__all__ = ["Gradient", "gradients"]

MARKS = ("<!-- made by benchmarks.past -->", "<!-- end of the past -->")


@dataclass(frozen=True)
class Gradient:
    """How an attack looks at the network: through time or not, over how many steps, and how many gradients it takes."""

    name: str
    through_time: bool
    steps: int | None
    count: int

    def case(self, victim: Victim) -> Case:
        """APGD on the margin of this gradient. Points of a shorter network are another network's, so none is dropped
        before the whole one has judged it."""
        rule = WhiteBox(ATan(through_time=self.through_time))
        short = None if self.steps is None else Victim(victim.body, victim.encoder, self.steps).eval()
        return Case(APGD(self.count), rule, margin, source=short, survivors=False)


def gradients(steps: int, count: int) -> Iterator[Gradient]:
    """For a network of so many time steps, and attacks of so many gradients."""
    yield Gradient("through time", True, None, count)
    yield Gradient("past detached", False, None, count)
    for part in (steps // 2, steps // 5):
        yield Gradient(f"{part} of {steps} steps", True, part, count)
        yield Gradient(f"{part} of {steps} steps, {steps // part} times as many", True, part, count * steps // part)


def cells() -> Iterator[tuple[str, CellConfig]]:
    """The demo's, and two of them with another neuron."""
    study = load_study(study_file("demo")).cells()
    for cell in study:
        yield cell.name, cell
    for cell in study[:2]:
        yield f"{cell.name}, LIF", replace(cell, neuron={"name": "lif", "tau": 2.0})


def found(name: str, config: CellConfig, asked: argparse.Namespace) -> Iterator[list[object]]:
    """A line of the table for each budget."""
    victim, _ = trained_victim(config, Store(asked.out), Machine(progress=False), load_images(config, "train"))
    victim = borrowed(victim.eval())
    images = some_images(load_images(config, "test"), None)
    batch = Batch.of(victim, *images.at(torch.arange(min(len(images), 2 * asked.images))), config.seed)
    with torch.no_grad():
        right = victim(batch.x, exact, batch.keys).argmax(1) == batch.y
    batch = batch.take(right.nonzero()[: asked.images, 0])
    for eps in asked.eps:
        line: list[object] = [name, eps, len(batch)]
        for one in gradients(config.steps, asked.gradients):
            started = time.process_time()
            rows = outcomes(victim, batch, "past", one.case(victim), Linf(eps))
            seconds = time.process_time() - started
            line.append(f"{sum(not row['fooled'] for row in rows)} ({seconds:.1f} s)")
        yield line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--gradients", type=int, default=50)
    parser.add_argument("--eps", nargs="+", default=["0.05", "0.15"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/past"), help="where the networks are kept")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    names = [one.name for one in gradients(10, asked.gradients)]
    lines = [f"| network | eps | images | {' | '.join(names)} |", "| --- " * (3 + len(names)) + "|"]
    for name, config in cells():
        for line in found(name, config, asked):
            lines.append(f"| {' | '.join(map(str, line))} |")
            print(lines[-1], flush=True)
    about = (
        f"`python -m benchmarks.past`, {datetime.datetime.now(datetime.UTC).date().isoformat()}: {processor()}, "
        f"{os.cpu_count()} cores, torch {torch.__version__}, {asked.threads} thread, n = 1: images left of those right "
        f"when clean by APGD of {asked.gradients} gradients, and seconds of the processor."
    )
    written(f"{about}\n\n" + "\n".join(lines), MARKS)


if __name__ == "__main__":
    main()
