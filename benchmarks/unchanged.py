"""`python -m benchmarks.unchanged`: whether the fast paths change a number.

The same weights (the demo's six networks, trained once) are examined twice, each time in a process of its own: with
every fast path, and with SPIKEPROOF_FAST=0, which leaves torch's own operations. The controls are, too, and are trained
there as well. A forward is the same bit by bit either way; a gradient is equal but for rounding, and an attack that
takes its sign may go another way from there. Told are the clean answers that differ, the rows of attacked images that
do, what the tier leaves, and every verdict and outcome. Some minutes on one core; `--out` keeps the networks. Prints
the table of `docs/performance.md`, and writes it there.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from benchmarks.page import ROOT, processor, written
from spikeproof import native
from spikeproof.commands._given import study_file
from spikeproof.evaluation.panel import evaluate
from spikeproof.rows import AttackRow, of_kind
from spikeproof.rules.atan import ATan
from spikeproof.store.store import Store
from spikeproof.study.config import load_study
from spikeproof.study.controls import run_controls
from spikeproof.study.run import some_images
from spikeproof.study.trained import Machine, load_images, trained_victim
from spikeproof.victims.victim import borrowed

__all__ = ["Panel", "compared"]

MARKS = ("<!-- made by benchmarks.unchanged -->", "<!-- end of the unchanged -->")


@dataclass(frozen=True)
class Panel:
    """One network under a tier: its clean answers, whether each attack fooled each image that it asked anything
    about, what is left, and the words for it. weights: a hash of them; rows: by 'attack, image'."""

    network: str
    weights: str
    answers: list[int]
    rows: dict[str, bool]
    left: list[int]
    verdict: str


def _short(verdict: object) -> str:
    """Without the audits that the tier does not run, or that cannot be."""
    return re.sub(r"; not run: [^)]*|no audit is red; |\(no audit is red\)", "", str(verdict)).strip()


def compared(fast: Panel, plain: Panel) -> list[object]:
    """A line of the table. An image that one of the two never came to, fooled before, has no row there to compare."""
    if fast.weights != plain.weights:
        raise ValueError(f"{fast.network}: two networks, not one")
    common = fast.rows.keys() & plain.rows.keys()
    left = (f"{len(fast.left)}, {len(plain.left)}", len({*fast.left} ^ {*plain.left}))
    words = fast.verdict if fast.verdict == plain.verdict else f"**{fast.verdict}**, **{plain.verdict}**"
    answers = sum(a != b for a, b in zip(fast.answers, plain.answers, strict=True))
    other = sum(fast.rows[row] != plain.rows[row] for row in common)
    return [fast.network, f"{answers} of {len(fast.answers)}", f"{other} of {len(common)}", *left, words]


def panels(asked: argparse.Namespace) -> Iterator[Panel]:
    """Of the demo's networks, in this process: trained with the fast paths, and without them with those weights."""
    for config in load_study(study_file("demo")).cells():
        given = asked.out / f"{config.name}.safetensors"
        if not native.fast():
            config = replace(config, weights=str(given))
        victim, file = trained_victim(config, Store(asked.out), Machine(progress=False))
        if native.fast():
            shutil.copyfile(file, given)
        x, y, ids = some_images(load_images(config, "test"), asked.images).at(torch.arange(asked.images))
        found = evaluate(borrowed(victim.eval()), x, y, ids=ids, tier=asked.tier, eps=asked.eps, rule=ATan())
        attacks = of_kind(found.rows, AttackRow)
        answers = {row["image"]: row["predicted"] for row in attacks}
        rows = {f"{row['attack']}, {row['image']}": row["fooled"] for row in attacks if row["forwards"]}
        left = sorted(answers.keys() - {row["image"] for row in attacks if row["fooled"]})
        values = {
            name: hashlib.sha256(value.numpy().tobytes()).hexdigest() for name, value in victim.state_dict().items()
        }
        weights = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
        yield Panel(config.name, weights, [answers[i] for i in sorted(answers)], rows, left, _short(found.verdict))


def controls(asked: argparse.Namespace) -> Iterator[tuple[str, str, bool]]:
    """Name, what was said of it, and whether it passed, in this process."""
    machine = Machine(progress=False)
    for one in run_controls(Store(asked.out), machine, tier="quick", images=asked.controls, smallest=True):
        fell = "" if one.broken is None else f", {100 * one.broken:.1f} % fell"
        yield one.name, _short(one.by) + fell, one.passed


def examined(asked: argparse.Namespace) -> None:
    """In this process, written line by line."""
    torch.set_num_threads(1)
    print(json.dumps(native.form(torch.device("cpu"))), flush=True)
    for panel in panels(asked):
        print(json.dumps(asdict(panel)), flush=True)
    if asked.controls:
        for control in controls(asked):
            print(json.dumps(control), flush=True)


def of_process(asked: argparse.Namespace, switch: str) -> tuple[list[Panel], list[tuple[str, str, bool]]]:
    """What a process of its own finds, with the fast paths or without."""
    given = ["--tier", asked.tier, "--eps", asked.eps, "--images", asked.images, "--controls", asked.controls]
    command = [sys.executable, "-m", "benchmarks.unchanged", "--here", "--out", asked.out, *given]
    env = {**os.environ, "SPIKEPROOF_FAST": switch}
    done = subprocess.run([*map(str, command)], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env)
    form, *lines = (json.loads(line) for line in done.stdout.splitlines())
    if form != ("C" if switch == "1" else "torch"):
        raise RuntimeError(f"with SPIKEPROOF_FAST={switch} the scan ran in {form}")
    return [Panel(**one) for one in lines if isinstance(one, dict)], [one for one in lines if isinstance(one, list)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tier", default="quick")
    parser.add_argument("--eps", default="0.05")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--controls", type=int, default=64, help="images of each control; 0: none")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/unchanged").resolve(), help="where the networks are kept"
    )
    parser.add_argument("--here", action="store_true", help="examine them in this process, and print what is found")
    asked = parser.parse_args()
    asked.out = asked.out.resolve()
    if asked.here:
        examined(asked)
        return
    (fast, fast_controls), (plain, plain_controls) = of_process(asked, "1"), of_process(asked, "0")
    head = ["network", "other clean answers", "other rows", "images left: fast, torch", "other images left", "verdict"]
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    lines += [f"| {' | '.join(map(str, compared(*both)))} |" for both in zip(fast, plain, strict=True)]
    other = [(a[0], a[1], b[1]) for a, b in zip(fast_controls, plain_controls, strict=True) if a != b]
    passed = [sum(one[2] for one in side) for side in (fast_controls, plain_controls)]
    about = (
        f"`python -m benchmarks.unchanged`, {datetime.datetime.now(datetime.UTC).date().isoformat()}: {processor()}, "
        f"torch {torch.__version__}, 1 thread: tier `{asked.tier}` at {asked.eps} on {asked.images} digits, seed 0."
    )
    told = (
        f"Controls that pass, trained anew either way: {passed[0]} of {len(fast_controls)}, and {passed[1]} in torch."
    )
    told += "\n" + "".join(f"\n- {name}: {a}; in torch {b}" for name, a, b in other) if other else " No word differs."
    print(text := "\n".join([about, "", *lines, "", told]))
    written(text, MARKS)


if __name__ == "__main__":
    main()
