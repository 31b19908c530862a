"""A network of somebody's own in a cell whose run is killed again and again: in the end the undisturbed rows.

Run as `python ownkills.py FOLDER`. Runs are forked from a process that has imported everything, and die after some
batches, as from a power cut.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path

import tinycell
import torch
from ownnets import MODULE, written

from spikeproof.store.store import Draft, Store
from spikeproof.study.config import CellConfig, cell_from
from spikeproof.study.run import Machine, code_of, run_cell


def cell(home: Path) -> CellConfig:
    """A panel of the nearest mean on four digits, in batches of two."""
    return cell_from({
        "data": {"name": "digits"}, "test_images": 12, "network": {"make": f"{MODULE}:make"},
        "weights": str(home / "means.pt"), "gradients": {"images": 4, "batch_size": 2},
        "evaluations": [
            {"name": "panel", "protocol": "panel", "tier": "smoke", "eps": [0.1], "images": 4, "batch_size": 2}
        ],
    })  # fmt: skip


def deadly(after: int) -> None:
    """From now on, die when so many batches are written."""
    append, count = Draft.append, 0

    def then(draft: Draft, *given: object) -> None:
        nonlocal count
        append(draft, *given)  # type: ignore[arg-type]
        count += 1
        if count == after:
            os.kill(os.getpid(), signal.SIGKILL)

    Draft.append = then  # type: ignore[method-assign,assignment]


def run(config: CellConfig, root: Path, after: int = 0) -> int:
    """The exit code of a process that runs the cell, and dies after that many more batches."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        deadly(after)
        run_cell(config, Store(root), Machine(progress=False))
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    home = written(folder / "home")
    sys.path.insert(0, str(home))
    config = cell(home)
    code_of(config)  # kept, and what it reads
    assert run(config, folder / "whole") == 0
    expected = tinycell.numbers(folder / "whole")
    assert len(expected) == len(tinycell.NUMBERS)
    root, killed = folder / "killed", 0
    while run(config, root, 7) == -signal.SIGKILL:
        killed += 1
        assert killed < 20, "a run goes on from nothing"
    assert tinycell.numbers(root) == expected
    assert [cell.damage() for cell in Store(root).folders()] == [None]
    assert not list(root.glob("*/*.partial"))
    print(f"killed {killed} times")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
