"""The command line: demo, train, evaluate, study, status, reproduce, pack, report, parts, transfer, controls,
findings, check.

YAML in, dotted overrides, unknown keys refused. Exit codes: 0 done, 1 failed, 2 usage, 3 a number that cannot be
trusted: a panel whose verdict is not 'supported', a network that `check` refuses.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace
from jsonargparse._actions import ActionConfigFile

import spikeproof
from spikeproof import parts, report
from spikeproof.commands.controls import run_controls
from spikeproof.commands.paper_facts import findings
from spikeproof.commands.transfer import of_cells
from spikeproof.data import balanced
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.evaluation.tiers import TIERS
from spikeproof.interop.check import check_path
from spikeproof.store.packed import pack, packed_cells
from spikeproof.store.store import Cell, Store
from spikeproof.study.config import Study, add_cell_arguments, cell_from, cell_of, load_study
from spikeproof.study.plan import Planned, plan, refuse_other_versions
from spikeproof.study.rerun import differences, find, reproduce
from spikeproof.study.run import Machine, run_cell, trained_victim
from spikeproof.study.status import STATES, states
from spikeproof.study.workers import Outcome, cores, run_cells

__all__ = ["main"]

STUDIES = Path(spikeproof.__file__).parent / "studies"


def _machine_options(parser: ArgumentParser, *, out: bool = True, workers: bool = False) -> None:
    if out:
        parser.add_argument("--out", type=Path, default=Path("runs"), help="where cells and the report are written")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda where torch has it")
    if workers:
        parser.add_argument("--workers", type=int, default=None, help="cells at a time (default: cores / threads)")
        parser.add_argument("--threads", type=int, default=1, help="torch threads of a cell; rounding depends on them")
    else:
        parser.add_argument("--threads", type=int, default=None, help="torch threads (default: torch's own choice)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="spikeproof", description="How robust a spiking network is, and how sparse its input gradients are.",
        version=spikeproof.__version__,
    )  # fmt: skip
    verbs = parser.add_subcommands(dest="verb", required=True)

    demo = ArgumentParser(description="the main job on digits: trains, attacks, measures, and writes the page")
    demo.add_argument("--smallest", action="store_true", help="two small cells, for a check that it works")
    _machine_options(demo, workers=True)
    verbs.add_subcommand("demo", demo, help="the main job on digits, from nothing to a page")

    for verb, text in (("train", "train one network"), ("evaluate", "train where needed, attack, measure, one cell")):
        one = ArgumentParser(description=text)
        one.add_argument("--config", action=ActionConfigFile, help="a cell's YAML; later options override it")
        add_cell_arguments(one)
        if verb == "evaluate":
            one.add_argument(
                "--tier", default=None, choices=TIERS,
                help="one panel instead of the evaluations, on as many images as the first of them",
            )  # fmt: skip
            one.add_argument("--eps", default=None, help="the panel's budget, in units of [0,1] (8/255)")
        _machine_options(one)
        verbs.add_subcommand(verb, one, help=text)

    study = ArgumentParser(description="run a grid of cells; finished cells are skipped")
    study.add_argument("file", help=f"a study's YAML, or a shipped one: {', '.join(_shipped())}")
    study.add_argument("--anyway", action="store_true", help="also into a folder with cells of another version")
    _machine_options(study, workers=True)
    verbs.add_subcommand("study", study, help="run a grid of cells, resumable, and write the page")

    status = ArgumentParser(description="how far a study is: finished, running, partial, missing, damaged cells")
    status.add_argument("file", help="the study's YAML, or a shipped one")
    status.add_argument("--out", type=Path, default=Path("runs"), help="the folder of the study")
    status.add_argument("--device", default="cpu", help="that of the study")
    verbs.add_subcommand("status", status, help="how far a study is")

    again = ArgumentParser(description="run a finished cell again and compare row for row")
    again.add_argument("key", help="the name of its folder in cells/, or the beginning of it")
    again.add_argument("--into", type=Path, default=None, help="a fresh folder (default: OUT/reproduced)")
    again.add_argument("--anyway", action="store_true", help="also with other sources than those of the cell")
    _machine_options(again)
    verbs.add_subcommand("reproduce", again, help="run a finished cell again and compare row for row")

    small = ArgumentParser(description="write the rows of finished cells, small enough for a repository")
    small.add_argument("folder", type=Path, help="where cells were written")
    small.add_argument("dest", type=Path, help="gets one .json.xz for each cell; `report DEST` makes the page")
    verbs.add_subcommand("pack", small, help="write the rows of a study small enough for a repository")

    page = ArgumentParser(description="write report.html and the figures from the cells of a folder, packed or not")
    page.add_argument("folder", type=Path)
    page.add_argument("--title", default=None)
    verbs.add_subcommand("report", page, help="write the page from finished cells")

    listing = ArgumentParser(description="every part with its options")
    listing.add_argument("folder", nargs="?", default=None, help=f"one of {', '.join(parts.FOLDERS)}")
    verbs.add_subcommand("parts", listing, help="list every part with its options")

    controls = ArgumentParser(description="honest networks must pass the audits, masked ones must not")
    controls.add_argument("--tier", default="quick", choices=TIERS)
    controls.add_argument("--images", type=int, default=128, help="test images for each control")
    controls.add_argument("--smallest", action="store_true", help="small networks, for a check that it works")
    _machine_options(controls)
    verbs.add_subcommand("controls", controls, help="does the toolkit flag masked networks, and only those?")

    matrix = ArgumentParser(description="images made for each finished network of a folder, tried on all the others")
    matrix.add_argument("folder", type=Path, help="where cells were written")
    matrix.add_argument("--eps", default="8/255", help="L-inf budget in units of [0,1]")
    matrix.add_argument("--images", type=int, default=128)
    _machine_options(matrix, out=False)
    verbs.add_subcommand("transfer", matrix, help="the transfer matrix of finished cells")

    facts = ArgumentParser(description="where the gradients of the paper's network are zero, and its dead weights")
    facts.add_argument("--images", type=Path, default=None, help="a folder of images (train/<class>/*), else digits")
    facts.add_argument("--steps", type=int, default=240, help="training steps before the second look")
    facts.add_argument("--seed", type=int, default=0)
    _machine_options(facts)
    verbs.add_subcommand("findings", facts, help="where the paper's gradients are zero, and its dead weights")

    ask = ArgumentParser(description="what would spoil the numbers of your own network, before any attack")
    ask.add_argument("model", help="dotted path to a function without arguments that makes it, package.module:make")
    ask.add_argument("--weights", type=Path, default=None, help="safetensors, or a torch state dict (no code is run)")
    ask.add_argument("--images", default=None, help="a data set by its name (digits), or a folder (test/<class>/*)")
    ask.add_argument("--count", type=int, default=64, help="how many images")
    ask.add_argument("--channels", type=int, default=3, help="of a folder's images: 3 or 1")
    ask.add_argument("--shape", default=None, help="C,H,W of random images, where no images are given")
    ask.add_argument("--steps", type=int, default=None, help="time steps, of a network that makes none of its own")
    ask.add_argument("--step_mode", default=None, choices=["m", "s"], help="all steps at once, or one a call")
    verbs.add_subcommand("check", ask, help="what would spoil the numbers of your own network")
    return parser


def _shipped() -> list[str]:
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


def _machine(options: Namespace) -> Machine:
    if options.threads is not None:
        if options.threads < 1:
            raise UsageError("threads >= 1", options.threads)
        torch.set_num_threads(options.threads)
    try:
        torch.zeros(1, device=options.device).item()  # read back, because 'meta' holds no numbers
    except (RuntimeError, AssertionError) as error:
        raise UsageError("a device that torch has", f"{options.device!r}: {error}", valid=["cpu"]) from error
    machine = Machine(options.device, progress=not options.quiet)
    machine.settle()
    return machine


def _run(study: Study, options: Namespace, *, anyway: bool) -> int:
    if options.workers is not None and options.workers < 1:
        raise UsageError("workers >= 1", options.workers)
    machine, store = _machine(options), Store(options.out)
    planned = plan(study.cells(), machine, study.refused)
    if not anyway:
        refuse_other_versions(planned, store)
    done, failed = _cells(planned, store, machine, options.workers)
    if done:
        print(f"report: {report.write(done, store.root, title=study.title).resolve()}")
    if failed:
        print(f"{len(failed)} of {len(planned)} cells failed; the same command tries them again:", file=sys.stderr)
        for outcome in failed:
            print(f"  {outcome.config.name}: {outcome.error}", file=sys.stderr)
        return 1
    return _trust(done)


def _cells(
    planned: Sequence[Planned], store: Store, machine: Machine, workers: int | None
) -> tuple[list[Cell], list[Outcome]]:
    """Run what is not finished, a line for every cell; the finished cells in the study's order, and what failed."""
    known = {cell.key: cell for cell in store.folders() if cell.damage() is None}
    left = [one.config for one in planned if one.key not in known]
    room = cores() // torch.get_num_threads() if machine.device == "cpu" else 1
    at_once = workers or max(1, min(len(left), room))
    if len(left) < len(planned):
        print(f"{len(planned) - len(left)} of {len(planned)} cells are finished already", file=sys.stderr)
    # The bars of several cells would overwrite each other.
    machine = replace(machine, progress=machine.progress and at_once == 1)
    outcomes: list[Outcome] = []
    with closing(run_cells(left, store, machine, at_once)) as running:
        for outcome in running:
            outcomes.append(outcome)
            mean = sum(one.seconds for one in outcomes) / len(outcomes)
            rest = _time(mean * (len(left) - len(outcomes)) / at_once)
            number = len(planned) - len(left) + len(outcomes)
            what = "done" if outcome.error is None else "FAILED"
            line = f"[{number}/{len(planned)}] {outcome.config.name}: {what} in {_time(outcome.seconds)}"
            print(line + (f", about {rest} left" if len(outcomes) < len(left) else ""), file=sys.stderr, flush=True)
    known.update({outcome.cell.key: outcome.cell for outcome in outcomes if outcome.cell is not None})
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    return [known[one.key] for one in planned if one.key in known], failed


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _trust(cells: Sequence[Cell]) -> int:
    """3 where a panel's verdict is not 'supported', and which; else 0."""
    code = 0
    for cell in cells:
        for panel in cell.summary["results"].get("panels", []):
            if panel["verdict"] != "supported":
                where = f"{cell.config['name']}, {panel['evaluation']} at eps {panel['eps_text']}"
                print(f"{where}: {panel['verdict']}, red: {', '.join(panel['red'])}", file=sys.stderr)
                code = 3
    return code


def _demo(options: Namespace) -> int:
    name = "smallest" if options.smallest else "demo"
    # A red audit is what the demo shows, not a failure of it: `study` and `evaluate` return 3 for one.
    code = _run(load_study(STUDIES / f"{name}.yaml"), options, anyway=True)
    return 0 if code == 3 else code


def _read_study(name: str) -> Study:
    path = Path(name)
    return load_study(STUDIES / f"{name}.yaml" if not path.exists() and name in _shipped() else path)


def _study(options: Namespace) -> int:
    return _run(_read_study(options.file), options, anyway=options.anyway)


def _status(options: Namespace) -> int:
    study = _read_study(options.file)
    found = states(plan(study.cells(), Machine(options.device), study.refused), Store(options.out))
    width = max(len(one.name) for one in found)
    for one in found:
        print(f"{one.name:{width}s}  {one.key}  {one.state:8s}  {one.detail}".rstrip())
    count = Counter(one.state for one in found)
    print(f"{len(found)} cells: " + ", ".join(f"{count[state]} {state}" for state in STATES))
    return 0


def _reproduce(options: Namespace) -> int:
    cell = find(Store(options.out), options.key)
    if options.threads is None:
        options.threads = cell.provenance.get("threads")  # rounding depends on them
    into = options.into or options.out / "reproduced"
    again = reproduce(cell, into, _machine(options), anyway=options.anyway)
    found = differences(cell, again)
    print(f"{cell.config['name']} ({cell.key}), run again as {again.folder}:")
    print("\n".join(found) if found else "equal, row for row")
    return 1 if found else 0


def _train(options: Namespace) -> int:
    _, weights = trained_victim(cell_of(options), Store(options.out), _machine(options))
    print(f"weights: {weights.resolve()}")
    return 0


def _evaluate(options: Namespace) -> int:
    config = cell_of(options)
    if options.tier is None and options.eps is not None:
        mend = "the budgets of evaluations stand in the configuration"
        raise UsageError("--tier with --eps", "none", mend=mend)
    if options.tier is not None:
        first = config.evaluations[0]
        panel = {"name": "panel", "protocol": "panel", "eps": [options.eps or "8/255"], "tier": options.tier,
                 "images": first.images}  # fmt: skip
        config = cell_from({**config.resolved(), "evaluations": [panel], "headline": {}})
    cell = run_cell(config, Store(options.out), _machine(options))
    print((cell.folder / "README.md").read_text(encoding="utf-8"))
    print(f"report: {report.write([cell], options.out, title=cell.config['name']).resolve()}")
    return _trust([cell])


def _finished(folder: Path) -> list[Cell]:
    cells = Store(folder).cells()
    if not cells:
        raise UsageError(f"finished cells under {folder}", "none", mend="run a study into it first")
    return cells


def _pack(options: Namespace) -> int:
    written = pack(_finished(options.folder), options.dest)
    size = sum(path.stat().st_size for path in written)
    print(f"{len(written)} cells in {options.dest}, {size / 1e6:.2f} MB")
    return 0


def _report(options: Namespace) -> int:
    # A folder may hold packed cells, which are of another kind to read and of the same to show.
    cells = packed_cells(options.folder) or _finished(options.folder)
    title = options.title or options.folder.resolve().name
    print(f"report: {report.write(cells, options.folder, title=title).resolve()}")
    return 0


def _parts(options: Namespace) -> int:
    for folder in [options.folder] if options.folder else parts.FOLDERS:
        listing = parts.describe(folder)
        print(f"{folder}:")
        for name, arguments, line in listing:
            print(f"  {name}({arguments})\n      {line}")
    return 0


def _findings(options: Namespace) -> int:
    print(findings(options.images, options.steps, options.seed, _machine(options)))
    return 0


def _controls(options: Namespace) -> int:
    if options.images < 1:
        raise UsageError("images >= 1", options.images)
    failed = 0
    for one in run_controls(
        Store(options.out), _machine(options), tier=options.tier, images=options.images, smallest=options.smallest
    ):
        wanted = "masked" if one.masked else "honest"
        fell = "" if one.broken is None else f"; {100 * one.broken:.1f} % fell"
        print(f"{'ok  ' if one.passed else 'FAIL'} {wanted}: {one.name:36s} {one.by}{fell}", flush=True)
        failed += not one.passed
    print(f"controls: {failed} failed")
    return 1 if failed else 0


def _transfer(options: Namespace) -> int:
    if options.images < 1:
        raise UsageError("images >= 1", options.images)
    matrix = of_cells(_finished(options.folder), options.eps, options.images, _machine(options))
    width = max(map(len, matrix))
    print("share of images broken, of those that every network gets right; rows: made for, columns: tried on")
    print(f"{'':{width}s}  " + "  ".join(f"{name:>10s}" for name in matrix))
    for source, row in matrix.items():
        print(f"{source:{width}s}  " + "  ".join(f"{100 * share.share:8.1f} %" for share in row.values()))
    print(f"n = {next(iter(next(iter(matrix.values())).values())).total}, eps {options.eps}")
    return 0


def _check(options: Namespace) -> int:
    images = labels = None
    if options.images is not None:
        folder = {"name": "image_folder", "root": options.images, "channels": options.channels}
        data = parts.build("data", {"name": options.images} if options.images in parts.names("data") else folder)
        whole = data.load("test")
        images, labels, _ = whole.at(balanced(whole.labels, whole.ids, min(options.count, len(whole)), purpose="check"))
    found = check_path(
        options.model, images, labels, weights=options.weights, shape=_shape(options.shape), steps=options.steps,
        step_mode=options.step_mode,
    )  # fmt: skip
    print(found)
    return 3 if found.refused else 0


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError as error:
        raise UsageError("--shape as C,H,W", repr(text), mend="--shape 3,32,32") from error


_VERBS: dict[str, Any] = {
    "demo": _demo,
    "train": _train,
    "evaluate": _evaluate,
    "study": _study,
    "status": _status,
    "reproduce": _reproduce,
    "pack": _pack,
    "report": _report,
    "parts": _parts,
    "findings": _findings,
    "controls": _controls,
    "transfer": _transfer,
    "check": _check,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    sys.path.insert(0, "")  # a part of the user's own, named by a dotted path, may lie in the working directory
    options = _parser().parse_args(arguments)
    try:
        return int(_VERBS[options.verb](options[options.verb]))
    except UsageError as error:
        print(f"spikeproof: {error}", file=sys.stderr)
        return 2
    except SpikeproofError as error:
        print(f"spikeproof: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a full disk, a folder that may not be written: what is finished is on disk
        said = SpikeproofError("a working disk", error, mend="free some space, start again")
        print(f"spikeproof: {said}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("spikeproof: stopped; the same command goes on from here", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
