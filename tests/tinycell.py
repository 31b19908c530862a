"""A cell that takes a second, parts of a user that leave a trace of every call, and the command line as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from spikeproof.attacks.fgsm import FGSM
from spikeproof.defences.vanilla import Vanilla

__all__ = [
    "DIES_AT", "DIES_ONCE", "KILL", "NUMBERS", "SMALLEST", "TRACE", "WIDER", "Fgsm", "FgsmThatDiesOnce", "Step",
    "command", "events", "happened", "numbers", "process_environment", "run", "smallest", "tiny",
]  # fmt: skip

NUMBERS = ("rows.jsonl", "gradients.jsonl", "history.jsonl")
"""The files of a cell that hold its numbers and nothing else."""

SMALLEST = {"name": "event_vgg", "depth": 1, "width": 4, "hidden": 8, "votes": 0, "size": 8}
"""Of the package's networks the one with the fewest layers, for what is done to cells as a whole; with batch-norm."""

WIDER = {**SMALLEST, "width": 8, "hidden": 32}
"""The same, wide enough to learn digits in a moment."""

TRACE, KILL, DIES_ONCE = "SPIKEPROOF_TEST_TRACE", "SPIKEPROOF_TEST_KILL_AT", "SPIKEPROOF_TEST_DIES_ONCE"
DIES_AT = "SPIKEPROOF_TEST_DIES_AT"


def tiny(**changes: Any) -> dict[str, Any]:
    """A cell's configuration, its top keys replaced by `changes`: 50 images to train on, 10 to validate, 10 to test."""
    return {
        "data": {"name": "digits"},
        "train_images": 60,
        "test_images": 10,
        "model": {"name": "small_sew_resnet", "width": 4},
        "steps": 2,
        "recipe": {"epochs": 2, "batch_size": 8, "lr": 0.01, "validation_share": 0.2},
        "evaluations": [
            {"name": "pixels", "eps": [0.1], "attacks": {"fgsm": {"name": "fgsm"}}, "batch_size": 3},
            {"name": "paper", "protocol": "paper", "images": 4},
        ],
        "gradients": {"images": 4, "weight_images": 2, "batch_size": 2},
        **changes,
    }


def smallest(**changes: Any) -> dict[str, Any]:
    """The tiny cell of the smallest network, in half the time: for what is done to cells as a whole."""
    return tiny(**{"model": SMALLEST, **changes})


def happened(what: str) -> None:
    """Write it down where the environment says; die as from a power cut at the event whose number it says."""
    path = Path(os.environ[TRACE])
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{what}\n")
    if len(events(path)) == int(os.environ.get(KILL, "0")):
        os.kill(os.getpid(), signal.SIGKILL)


def events(path: Path) -> list[str]:
    """What the parts below have written so far."""
    return path.read_text(encoding="utf-8").split() if path.exists() else []


@dataclass(frozen=True)
class Step:
    """A user's defence: the vanilla one, with a trace."""

    def __call__(self, *given: Any) -> Tensor:
        happened("step")
        return Vanilla()(*given)


@dataclass(frozen=True)
class Fgsm:
    """A user's attack: FGSM, with a trace; its rehearsals, on images of another size than the digits', leave none."""

    def __call__(self, f: Any, x0: Tensor, *given: Any) -> Tensor:
        if x0.shape[-1] == 8:
            happened("attack")
        return FGSM()(f, x0, *given)


_CALLS: list[None] = []


@dataclass(frozen=True)
class FgsmThatDiesOnce:
    """A user's attack: FGSM, which at a process's call of that number kills it, where `once`, or the environment, names
    a file that is not there yet."""

    calls: int = 1
    once: str = ""

    def __call__(self, f: Any, x0: Tensor, *given: Any) -> Tensor:
        if x0.shape[-1] == 8 and (path := self.once or os.environ.get(DIES_ONCE)):
            _CALLS.append(None)
            with suppress(FileExistsError):
                if len(_CALLS) == int(os.environ.get(DIES_AT, self.calls)):
                    os.close(os.open(path, os.O_CREAT | os.O_EXCL))
                    os.kill(os.getpid(), signal.SIGKILL)
        return FGSM()(f, x0, *given)


def process_environment(trace: Path, kill_at: int = 0) -> dict[str, str]:
    """For a process that finds this file's parts, on one thread, and dies at event number `kill_at`."""
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {
        **os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", TRACE: str(trace),
        KILL: str(kill_at),
    }  # fmt: skip


def command(*arguments: object) -> list[str]:
    """The command line, without bars, on one thread."""
    return [sys.executable, "-m", "spikeproof", *map(str, arguments), "--quiet", "--threads", "1"]


def numbers(root: Path) -> dict[str, bytes]:
    """The files of numbers of every finished cell of a store, by their path in it."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for name in NUMBERS
        for path in sorted(root.glob(f"cells/*/{name}"))
        if "." not in path.parent.name
    }


def run(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """To its end, within five minutes, which a busy machine may need."""
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=300, check=False)
