"""The machine that a command works on, and the options that say it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from spikeproof.errors import UsageError
from spikeproof.limits import THREADS
from spikeproof.store.store import Store

if TYPE_CHECKING:
    from spikeproof.study.run import Machine
    from spikeproof.training.world import World

__all__ = ["add_machine", "machine_of", "store_of"]


def add_machine(parser: ArgumentParser, *, out: bool = True, workers: bool = False) -> None:
    """Options of a command that computes; out: it writes into a store; workers: it may run several cells at a time."""
    if out:
        parser.add_argument("--out", type=Path, default=Path("runs"), help="where cells and the report are written")
        parser.add_argument(
            "--wait", type=float, default=None,
            help="seconds to wait for what another command is at (default: until it is done); then exit code 75: "
            "nothing is lost, start again later",
        )  # fmt: skip
    parser.add_argument("--device", default="cpu", help="cpu, or cuda where torch has it")
    if workers:
        parser.add_argument("--workers", type=int, default=None, help="cells at a time (default: cores / threads)")
        parser.add_argument("--threads", type=int, default=1, help="torch threads of a cell; rounding depends on them")
    else:
        parser.add_argument("--threads", type=int, default=None, help="torch threads (default: torch's own choice)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def store_of(options: Namespace, root: Path | None = None) -> Store:
    """Where a command writes (root: not to --out), with its patience. Raises UsageError for a negative one, and
    SpikeproofError for a folder that another user could lead elsewhere."""
    if options.wait is not None and not options.wait >= 0:  # nor NaN
        raise UsageError("wait >= 0", options.wait)
    store = Store(root or options.out, patience=options.wait)
    store.refuse_others()
    return store


def machine_of(options: Namespace, *, elsewhere: bool = False, world: World | None = None) -> Machine:
    """The machine, settled and with its threads set. Raises UsageError for one that torch does not have; elsewhere: the
    work is done on other ones, and this one need not have the device; world: of processes that train together."""
    if options.threads is not None and not 1 <= options.threads <= THREADS:
        raise UsageError(f"threads in 1..{THREADS}", options.threads)
    import torch

    from spikeproof.study.run import Machine

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    if elsewhere:
        return Machine(options.device, progress=False)
    try:
        torch.zeros(1, device=options.device).item()  # read back, because 'meta' holds no numbers
    except (RuntimeError, AssertionError) as error:
        raise UsageError("a device that torch has", f"{options.device!r}: {error}", valid=["cpu"]) from error
    machine = Machine(options.device, progress=not options.quiet)
    if world is not None:
        machine = replace(machine, world=world)
    machine.settle()
    return machine
