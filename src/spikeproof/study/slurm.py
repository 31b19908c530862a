"""The engine of SLURM: an array of workers, each of which takes the next free cell, until none is left.

What SLURM knows is no part of it: whether a cell is done, its folder says, so no accounting data base is asked. A
worker that is warned of its limit ends at a batch, and has itself queued again; so does one that SLURM started again,
as after the loss of a node, and that found all that is left held by others: the 'lost' process may be alive, and still
at its cell.
"""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.files import disk_errors
from spikeproof.store.store import Cell, Store
from spikeproof.study.config import CellConfig
from spikeproof.study.executor import Outcome
from spikeproof.study.failures import failure
from spikeproof.study.trained import Machine

__all__ = ["Slurm"]

_LOOK = 2.0
"""Seconds between two looks at the folder, by a command that waits."""

_SCRIPT = """\
#!/bin/bash
{directives}

{setup}
export SPIKEPROOF_JOB="slurm ${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
{worker} &
worker=$!
trap 'kill -USR1 "$worker"' USR1
trap 'kill -TERM "$worker"' TERM
wait "$worker"; code=$?
while kill -0 "$worker" 2>/dev/null; do wait "$worker"; code=$?; done  # a signal ends a wait, and not the worker

# {usr1}: warned of the limit. {locked}, and started before: the process of a lost node may still be at its cell.
if [ "$code" -eq {usr1} ] || {{ [ "$code" -eq {locked} ] && [ "${{SLURM_RESTART_COUNT:-0}}" -gt 0 ]; }}; then
  {requeue}
  echo "spikeproof: not queued again; what is written is kept: start the study again" >&2
fi
exit "$code"
"""

_WARNED, _LOCKED = 128 + signal.SIGUSR1, 75


@dataclass(frozen=True)
class Slurm:
    """`at_once` workers of a plan.

    plan: its digest; keys: name of a cell -> its key; options: of sbatch, as the site wants them; setup: lines of shell
    before the worker; python: what runs Python on a node, a container's perhaps; warning: seconds before the limit at
    which a worker is told, of which it takes half until it ends a cell that writes no batch; allowed, trust: as
    `spikeproof worker` takes them; tell: where the number of the job goes.
    """

    at_once: int
    plan: str
    keys: Mapping[str, str]
    threads: int = 1
    options: Sequence[str] = ()
    setup: Sequence[str] = ()
    python: str = field(default_factory=lambda: shlex.quote(sys.executable))
    warning: int = 120
    allowed: Sequence[str] = ()
    trust: bool = False
    tell: Callable[[str], None] = print

    def __post_init__(self) -> None:
        for text in (*self.options, *self.setup):
            if "\n" in text or not text.strip():
                raise UsageError("an option of sbatch, or a line of shell, on one line", repr(text))
        for option in self.options:
            if not option.startswith("-"):
                raise UsageError("an option of sbatch, as --sbatch=--partition=gpu", repr(option))
        if self.at_once < 1 or self.warning < 2:
            raise UsageError("jobs >= 1 and warning >= 2", f"{self.at_once}, {self.warning}")

    def script(self, store: Store, machine: Machine) -> str:
        """What sbatch is given; everything the study needs stands in it, or in its folder."""
        return _SCRIPT.format(
            directives="\n".join(f"#SBATCH {option}" for option in self._directives(store, machine)),
            setup="\n".join(self.setup),
            worker=self._worker(store),
            usr1=_WARNED,
            locked=_LOCKED,
            requeue='scontrol requeue "$SLURM_JOB_ID" && sleep 60'
            if self._requeues
            else ":  # the site has no requeue",
        )

    @property
    def _requeues(self) -> bool:
        return "--no-requeue" not in self.options

    def _directives(self, store: Store, machine: Machine) -> list[str]:
        """The site's own come last: of two that say the same, sbatch takes the latter."""
        ours = [
            "--job-name=spikeproof", f"--array=0-{self.at_once - 1}", "--ntasks=1",
            f"--cpus-per-task={self.threads}", f"--signal=B:USR1@{self.warning}", "--open-mode=append",
            f'--output="{_logs(store)}/%A_%a.log"', *(["--requeue"] if self._requeues else []),
        ]  # fmt: skip
        asked = any(option.startswith(("--gres", "--gpus", "-G")) for option in self.options)
        gpu = ["--gres=gpu:1"] if machine.device.startswith("cuda") and not asked else []
        return [*ours, *gpu, *self.options]

    def _worker(self, store: Store) -> str:
        words = [
            "-m", "spikeproof", "worker", str(store.root.resolve()), "--plan", self.plan, "--grace",
            str(self.warning // 2), *(word for name in self.allowed for word in ("--allow", name)),
            *(["--trust"] if self.trust else []),
        ]  # fmt: skip
        return f"{self.python} {shlex.join(words)}"

    def submit(self, store: Store, machine: Machine) -> str:
        """The number of the job array. Raises SpikeproofError where there is no sbatch, or it refuses."""
        with disk_errors(_logs(store)):
            _logs(store).mkdir(parents=True, exist_ok=True)
        said = _run(["sbatch", "--parsable"], self.script(store, machine))
        found = re.search(r"^(\d+)(?:;|$)", said, re.MULTILINE)
        if found is None:
            raise SpikeproofError("the number of a job from sbatch", repr(said.strip()))
        return found[1]

    def run(self, cells: Sequence[CellConfig], store: Store, machine: Machine) -> Generator[Outcome, None, None]:
        """Submits the array, and looks at the folder for as long as the store has patience. Closing ends no job."""
        started, job = time.monotonic(), self.submit(store, machine)
        self.tell(f"SLURM has job {job}: {self.at_once} workers, whose output is in {_logs(store)}")
        left = list(cells)
        while left:
            over = store.patience is not None and time.monotonic() - started >= store.patience
            gone = not over and not _queued(job)
            for config in [*left]:
                cell = Cell(self.keys[config.name], store.root / "cells" / self.keys[config.name])
                error = failure(store, cell.key) or f"not done, and no worker of job {job} is left: {_logs(store)}"
                if cell.folder.is_dir() or gone or over:
                    left.remove(config)
                    done = cell.folder.is_dir()
                    said = (cell if done else None, error if gone and not done else None)
                    yield Outcome(config, *said, time.monotonic() - started)
            if left:
                time.sleep(_LOOK)


def _queued(job: str) -> bool:
    """Whether some task of a job array is waiting or running; a controller that does not answer says nothing."""
    try:
        return bool(_run(["squeue", "--noheader", "--jobs", job]).strip())
    except SpikeproofError as error:
        return "Invalid job id" not in str(error)


def _logs(store: Store) -> Path:
    return store.root.resolve() / "slurm"


def _run(words: list[str], given: str = "") -> str:
    """What a command of SLURM says. Raises SpikeproofError where there is none, or it refuses or does not answer."""
    try:
        done = subprocess.run(words, input=given, capture_output=True, text=True, timeout=120, check=False)
    except FileNotFoundError:
        mend = "start it on a machine that submits to SLURM, or --engine local; --dry-run only shows the script"
        raise SpikeproofError(f"the command {words[0]} of SLURM", "none on this machine", mend=mend) from None
    except subprocess.TimeoutExpired:
        mend = "ask `sinfo`; nothing is lost: start again when it answers"
        raise SpikeproofError(f"an answer of {words[0]} within two minutes", "none", mend=mend) from None
    if done.returncode:
        mend = "options of this site are given with --sbatch=--option=value"
        raise SpikeproofError(f"{words[0]} to take the job", " ".join(done.stderr.split()), mend=mend)
    return done.stdout
