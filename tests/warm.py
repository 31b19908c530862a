"""Processes forked from the server that the package's own workers are forked from, so that a start costs nothing.

The server has imported everything, torch and its compiler too, which takes seconds, and has never computed, so what is
forked from it is as good as a process started afresh: one of its own, which can be killed. A test whose point is the
start itself, or the command line as a shell has it, makes a fresh one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from spikeproof.commands import main
from spikeproof.study import workers

__all__ = ["command", "run", "start"]

PATIENCE = 300
"""Seconds, which a busy machine may need."""


def start(
    function: Callable[..., object], *given: Any, environment: dict[str, str], out: object = os.devnull,
    err: object = os.devnull,
) -> BaseProcess:  # fmt: skip
    """A process that calls a function that can be imported; what it returns is the exit code, None for 0.

    out, err: files that get what it says.
    """
    process: BaseProcess = workers._context().Process(
        target=_live, args=(function, given, environment, str(out), str(err))
    )
    process.start()
    return process


def _live(
    function: Callable[..., Any], given: tuple[Any, ...], environment: dict[str, str], out: str, err: str
) -> None:
    """The environment is the one that is given, whatever it was when the server was started."""
    os.environ.clear()
    os.environ.update(environment)
    for path, number in ((out, 1), (err, 2)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    torch.set_num_threads(1)
    sys.exit(function(*given))


def run(function: Callable[..., object], *given: Any, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """To its end."""
    with TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = start(function, *given, environment=environment, out=out, err=err)
        process.join(PATIENCE)
        late = process.exitcode is None
        if late:
            process.kill()
            process.join()
        said = [path.read_text(encoding="utf-8") for path in (out, err)]
        said[1] += f"\nkilled after {PATIENCE} s" if late else ""
        return subprocess.CompletedProcess([], process.exitcode or 0, *said)


def command(*arguments: object) -> int:
    """The command line, as `tinycell.command` has it, in such a process; its own workers are forked from it."""
    workers._context = lambda: get_context("fork")
    os.fsync = lambda file: None  # as in the process of the tests
    return main([*map(str, arguments), "--quiet", "--threads", "1"])
