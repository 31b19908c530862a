"""work on the cells of a planned study, until none is left: what any scheduler starts, as often as it likes"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from spikeproof.errors import Locked, UsageError
from spikeproof.limits import THREADS
from spikeproof.store.store import Store

if TYPE_CHECKING:
    from spikeproof.study.handout import Handout
    from spikeproof.study.worker import Became, Finished


def options(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="that of the study (its --out), which this machine must see as well")
    parser.add_argument("--plan", default=None, help="the plan's digest, which `study` told (default: the latest)")
    parser.add_argument("--device", default=None, help="cuda:1, where the scheduler does not say (default: the plan's)")
    parser.add_argument("--threads", type=int, default=None, help="torch threads (default: the plan's)")
    parser.add_argument(
        "--allow", action="append", default=None, metavar="NAME",
        help="what may be of another version than where the study was planned: spikeproof, torch, numpy, python",
    )  # fmt: skip
    parser.add_argument(
        "--wait", type=float, default=0.0,
        help="seconds to wait for cells that others are at, when nothing else is left; then exit code 75",
    )  # fmt: skip
    parser.add_argument(
        "--grace", type=float, default=60.0,
        help="seconds from SIGTERM or SIGUSR1 until a cell ends that has written no batch meanwhile",
    )  # fmt: skip
    parser.add_argument("--trust", action="store_true", help="also run code of others that a configuration names")


def run(options: Namespace) -> int:
    if not options.wait >= 0 or not 0 <= options.grace < 1e6:
        raise UsageError("wait and grace >= 0", f"{options.wait}, {options.grace}")
    store = Store(options.folder)
    store.refuse_others()
    import torch

    from spikeproof.study.handout import read

    handout = read(store, options.plan)
    handout.refuse_others(options.allow or ())
    threads = options.threads or handout.facts["threads"]
    if not 1 <= threads <= THREADS:
        raise UsageError(f"threads in 1..{THREADS}", threads)
    torch.set_num_threads(threads)
    return _said(_work(handout, options), handout)


def _work(handout: Handout, options: Namespace) -> Finished:
    from spikeproof.study.trained import Machine
    from spikeproof.study.worker import Worker

    machine = Machine(options.device or handout.facts["device"], progress=False)
    worker = Worker(
        handout, options.folder, machine, patience=options.wait, grace=options.grace, trust=options.trust
    )  # fmt: skip
    return worker.run(handout.cells, _tell)


def _tell(became: Became) -> None:
    said = "done" if became.error is None else f"FAILED: {became.error}"
    print(f"{time.strftime('%H:%M:%S')} {became.name}: {said} in {became.seconds:.0f} s", file=sys.stderr, flush=True)


def _said(finished: Finished, handout: Handout) -> int:
    print(f"{finished.done} cells done here, of {len(handout.cells)} planned", file=sys.stderr)
    if (number := finished.signalled) is not None:
        print(f"spikeproof: stopped by {number.name}; what is written is kept, start again", file=sys.stderr)
        return 128 + number
    if finished.failed:
        return 1
    if finished.left:
        got = f"{finished.left} that other workers are at"
        raise Locked(f"all {len(handout.cells)} cells", got, mend="start again later")
    return 0
