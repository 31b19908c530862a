"""Twelve tiny cells, four of which come by a gate, and what they are when nothing disturbs them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import tinycell
import yaml
from gate import GATE
from tinycell import numbers, tiny

__all__ = ["CELLS", "KILLS", "ask", "environment", "expected", "finished", "study_file", "until"]

CELLS = 12

KILLS = int(os.environ.get("KILLS", "3"))
"""How many kills a test of many has: KILLS=30 asks for thirty."""

SMALLER = {
    "train_images": 40,
    "encoder": {"name": "direct"},
    "gradients": {"images": 2, "weight_images": 1, "batch_size": 1, "layers": False},
}

_HERE = Path(__file__).parent


def study_file(folder: Path) -> Path:
    gated = {"name": "pixels", "eps": [0.1], "attacks": {"f": {"name": "gate:Gated"}}, "batch_size": 3}
    plain = {**gated, "attacks": {"f": {"name": "fgsm"}}}
    kinds = {"gated": {"evaluations": [gated]}, "max": {}, "avg": {"model.pool": "avg"}}
    base = {**tiny(evaluations=[plain]), **SMALLER}
    study = {"title": "twelve", "base": base, "axes": {"kind": kinds}, "seeds": [0, 1, 2, 3]}
    path = folder / "twelve.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    return path


def environment(folder: Path, gate: Path | None = None) -> dict[str, str]:
    """Of processes that find these files' parts; gate: where one of them is to be held up."""
    made = tinycell.process_environment(folder / "trace")
    made["PYTHONPATH"] = os.pathsep.join([str(_HERE), made["PYTHONPATH"]])
    return made if gate is None else {**made, GATE: str(gate)}


@cache
def expected() -> dict[str, bytes]:
    """Every number of the twelve cells, from one undisturbed local command."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        words = tinycell.command("study", study_file(folder), "--workers", 2, "--out", folder / "runs")
        done = tinycell.run(words, environment(folder))
        assert done.returncode == 0, done.stderr
        found = numbers(folder / "runs")
    assert len(found) == CELLS * len(tinycell.NUMBERS)
    return found


def finished(root: Path) -> int:
    return sum("." not in path.name for path in root.glob("cells/*"))


def ask(words: list[str], given: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return tinycell.run([sys.executable, "-m", "spikeproof", *words], given)


def until(true: Callable[[], object], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"no {what} in {seconds:.0f} s"
        time.sleep(0.1)
