"""The engine of a command: its options, and the one that they ask for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from spikeproof.errors import UsageError

if TYPE_CHECKING:
    from spikeproof.study.executor import Executor
    from spikeproof.study.plan import Planned
    from spikeproof.study.slurm import Slurm
    from spikeproof.study.trained import Machine

__all__ = ["ENGINES", "add_engines", "check_engine", "engine_of"]

ENGINES = ("local", "slurm", "ray")

_OF_SLURM = ("dry_run", "sbatch", "setup", "python")


def add_engines(parser: ArgumentParser) -> None:
    parser.add_argument("--engine", default="local", choices=ENGINES, help="what runs the cells (docs/cluster.md)")
    parser.add_argument("--jobs", type=int, default=None, help="cells at a time, on whatever machines (as --workers)")
    parser.add_argument("--plan", action="store_true", help="only plan the folder, for `spikeproof worker OUT`")
    parser.add_argument("--dry-run", action="store_true", help="slurm: print the script, and submit nothing")
    parser.add_argument(
        "--sbatch", action="append", default=None, metavar="OPTION",
        help="slurm: an option of the site, as often as needed: --sbatch=--partition=gpu --sbatch=--time=4:00:00",
    )  # fmt: skip
    parser.add_argument(
        "--setup", action="append", default=None, metavar="LINE", help="slurm: a line of shell before the worker"
    )
    parser.add_argument("--python", default=None, help="slurm: what runs Python on a node (a container's, perhaps)")
    parser.add_argument("--address", default=None, help="ray: the head, host:port (default: this machine's)")
    parser.add_argument(
        "--allow", action="append", default=None, metavar="NAME",
        help="what may be of another version on a worker: spikeproof, torch, numpy, python",
    )  # fmt: skip


def check_engine(options: Namespace) -> None:
    """Raises UsageError for options that do not go together, and for no jobs."""
    given = [name for name in _OF_SLURM if options[name]]
    if given and options.engine != "slurm":
        raise UsageError(f"--engine slurm with --{given[0].replace('_', '-')}", options.engine)
    if options.address and options.engine != "ray":
        raise UsageError("--engine ray with --address", options.engine)
    if options.jobs is not None and options.workers not in (None, options.jobs):
        raise UsageError("--jobs or --workers, which mean the same", f"{options.jobs} and {options.workers}")
    options.workers = options.workers if options.jobs is None else options.jobs
    if options.shards is not None:
        _check_shards(options)


def _check_shards(options: Namespace) -> None:
    if options.shards < 1 or options.workers is not None:
        mend = "--shards is workers at one cell, --workers is cells at a time"
        raise UsageError("shards >= 1, and no --workers beside it", f"{options.shards}, {options.workers}", mend=mend)
    if options.engine != "local" or options.plan:
        mend = "let every job run the same command with --shards 1 and --out: they join each other"
        raise UsageError("--engine local with --shards, and no --plan", options.engine, mend=mend)


def engine_of(options: Namespace, planned: Sequence[Planned], left: int, plan: str, machine: Machine) -> Executor:
    """The engine that the options ask for. left: how many cells it will be given; where none is, this process, so that
    nothing is submitted and no cluster is asked."""
    from spikeproof.study.here import Here

    if not left:
        return Here()
    keys = {one.config.name: one.key for one in planned}
    engine = options.get("engine", "local")
    if engine == "slurm":
        return _slurm(options, keys, left, plan)
    if engine == "ray":
        from spikeproof.study.ray_tasks import RayTasks

        at_once, allowed = options.workers or left, tuple(options.allow or ())
        return RayTasks(at_once, plan, keys, options.address or "auto", options.threads, allowed, trust=True)
    if options.get("shards") is not None:
        from spikeproof.study.sharded import Sharded

        return Sharded(options.shards)
    import torch

    from spikeproof.study.workers import Workers, cores, devices

    room = cores() // torch.get_num_threads() if machine.device == "cpu" else len({*devices(machine.device, 64)})
    at_once = options.workers or max(1, min(left, room))
    return Workers(at_once) if at_once > 1 else Here()


def _slurm(options: Namespace, keys: dict[str, str], left: int, plan: str) -> Slurm:
    from spikeproof.study.slurm import Slurm

    said = {} if options.python is None else {"python": options.python}
    return Slurm(
        min(options.workers or left, left), plan, keys, options.threads, tuple(options.sbatch or ()),
        tuple(options.setup or ()), allowed=tuple(options.allow or ()), trust=True, tell=_tell, **said,
    )  # fmt: skip


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
