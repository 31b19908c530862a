"""Cells of a command: run what is not finished, and say what became of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from spikeproof import report
from spikeproof.commands._engines import engine_of
from spikeproof.commands._machine import machine_of, store_of
from spikeproof.errors import Locked, UsageError
from spikeproof.report import planning
from spikeproof.store.store import Cell, Store
from spikeproof.study.config import CellConfig, Paper, load_study
from spikeproof.study.executor import Executor, Outcome
from spikeproof.study.handout import hand_out
from spikeproof.study.kept import keep
from spikeproof.study.plan import Planned, plan, refuse_other_versions
from spikeproof.study.run import Machine
from spikeproof.study.sharded import Sharded
from spikeproof.study.slurm import Slurm

__all__ = ["run_study", "trust"]


def run_study(file: Path, options: Namespace, *, anyway: bool) -> int:
    """Every cell of a study's file, and the page; anyway: also beside cells of another version. Raises Locked where all
    that is left are cells that another command is at."""
    study = load_study(file)
    if options.workers is not None and options.workers < 1:
        raise UsageError("workers >= 1", options.workers)
    engine = str(options.get("engine", "local"))
    machine, store = machine_of(options, elsewhere=engine != "local"), store_of(options)
    planned = plan(study.cells(), machine, study.refused)
    if not anyway:
        refuse_other_versions(planned, store)
    _say_what_it_cannot([one.resolved for one in planned])
    keep(store, file, machine.device, [one.called for one in planned], [one.resolved for one in planned])
    handed = engine != "local" or bool(options.get("plan"))
    digest = hand_out(store, planned, machine, options.threads, study.title) if handed else ""
    if options.get("plan"):
        print(f"{len(planned)} cells planned: spikeproof worker {store.root.resolve()} --plan {digest}")
        return 0
    known = {cell.key: cell for cell in store.folders() if cell.damage() is None}
    left = [one.config for one in planned if one.key not in known]
    executor = engine_of(options, planned, len(left), digest, machine)
    if isinstance(executor, Sharded):
        _tell_undivided(planned)
    if options.get("dry_run"):
        print(executor.script(store, machine) if isinstance(executor, Slurm) else "# every cell is finished\n", end="")
        return 0
    if engine == "slurm" and options.wait is None:
        store = Store(store.root, patience=0.0)  # the array goes on by itself
    done, failed, busy = _cells(planned, known, left, executor, store, machine)
    if done:
        print(f"report: {report.write(done, store.root, title=study.title).resolve()}")
    if failed:
        print(f"{len(failed)} of {len(planned)} cells failed; the same command tries them again:", file=sys.stderr)
        for outcome in failed:
            print(f"  {outcome.config.name}: {outcome.error}", file=sys.stderr)
        return 1
    if busy and engine == "slurm" and options.wait is None:
        print(f"{len(busy)} cells left to SLURM; spikeproof status shows them, the same command then makes the page")
        return 0
    if busy:
        raise Locked(
            f"all {len(planned)} cells",
            f"{len(busy)} that another command is at",
            mend="start again when that one has ended, or --wait longer",
        )
    return trust(done)


def _say_what_it_cannot(configs: Sequence[dict[str, Any]]) -> None:
    """A study that can decide no claim of the trade-off runs, for it may be asked something else, and is told first."""
    of = planning.layout(configs, images=0)
    if of.hopeless:
        print(f"this study can decide no claim of the trade-off: {'; '.join(planning.obstacles(of))}", file=sys.stderr)


def _cells(
    planned: Sequence[Planned], known: dict[str, Cell], left: Sequence[CellConfig], engine: Executor, store: Store,
    machine: Machine,
) -> tuple[list[Cell], list[Outcome], list[Outcome]]:  # fmt: skip
    """Run what is not finished, a line for every cell; the finished cells in the study's order, what failed, and what
    another command is at. known: the finished ones, by their keys."""
    if len(left) < len(planned):
        print(f"{len(planned) - len(left)} of {len(planned)} cells are finished already", file=sys.stderr)
    # The bars of several cells would overwrite each other.
    machine = replace(machine, progress=machine.progress and engine.at_once == 1 and not isinstance(engine, Sharded))
    outcomes: list[Outcome] = []
    with closing(engine.run(left, store, machine)) as running:
        for outcome in running:
            outcomes.append(outcome)
            mean = sum(one.seconds for one in outcomes) / len(outcomes)
            rest = _time(mean * (len(left) - len(outcomes)) / engine.at_once)
            number = len(planned) - len(left) + len(outcomes)
            line = f"[{number}/{len(planned)}] {outcome.config.name}: {_became(outcome)} in {_time(outcome.seconds)}"
            print(line + (f", about {rest} left" if len(outcomes) < len(left) else ""), file=sys.stderr, flush=True)
    there = {one.config.name: known[one.key] for one in planned if one.key in known}
    # By name: a worker whose scan has another form than this process has another key for the same cell.
    there |= {outcome.config.name: outcome.cell for outcome in outcomes if outcome.cell is not None}
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    busy = [outcome for outcome in outcomes if outcome.cell is None and outcome.error is None]
    return [there[one.config.name] for one in planned if one.config.name in there], failed, busy


def _tell_undivided(planned: Sequence[Planned]) -> None:
    """Say which evaluations cannot be divided."""
    paper = {one.name for cell in planned for one in cell.config.evaluations if isinstance(one, Paper)}
    if paper:
        why = "the batches of the paper's protocol depend on one another, so one worker makes each whole"
        print(f"not divided: {', '.join(sorted(paper))}; {why}", file=sys.stderr)


def _became(outcome: Outcome) -> str:
    if outcome.error is not None:
        return "FAILED"
    return "LOCKED by another command" if outcome.cell is None else "done"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def trust(cells: Sequence[Cell]) -> int:
    """3 where a panel's verdict is not 'supported', and which; else 0."""
    code = 0
    for cell in cells:
        for panel in cell.summary["results"]["panels"]:
            if panel["verdict"] != "supported":
                where = f"{cell.config['name']}, {panel['evaluation']} at eps {panel['eps_text']}"
                print(f"{where}: {panel['verdict']}, red: {', '.join(panel['red']) or 'none'}", file=sys.stderr)
                code = 3
    return code
