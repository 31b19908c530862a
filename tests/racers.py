"""Two processes at one draft of a store whose locks do not lock; one that is finished has all its rows, each once.

Run as `python racers.py FOLDER TRIALS KIND`: 'unseen', where a run cannot know that its locks do not lock, and one may
fail; 'flock', where the system's do nothing, a run finds out, and none may fail.
"""

from __future__ import annotations

import fcntl
import os
import random
import sys
import time
import traceback
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from spikeproof.errors import SpikeproofError
from spikeproof.store import lease
from spikeproof.store.store import Cell, Store

KEY = "0123456789abcdef"
BATCHES = 12
ROWS: list[Any] = [{"kind": "clean", "image": number} for number in range(BATCHES)]
FINISHED, FAILED, BROKEN = 0, 1, 2


class Unlocked:
    """A lock that knows of nobody."""

    def check(self) -> None:
        pass


def cell_of(root: Path, pace: float) -> Cell:
    """As a run makes it: where a stage was left off it goes on."""
    store = Store(root)
    with store.lock(KEY) as lock:
        if (done := store.finished(KEY)) is not None:
            return done
        draft = store.draft(KEY, lock)
        if not draft.done("clean"):
            for row in ROWS[len(draft.batches("clean")) :]:
                draft.append("clean", [row])
                time.sleep(pace)
            draft.close("clean", BATCHES)
        draft.write_stage("rows", draft.stage("clean"))
        draft.write_stage("gradients", [])
        draft.write_stage("history", [])
        return store.finish(draft, {}, {"provenance": {}, "results": {}}, "", root.parent / "weights")


def start(root: Path, wait: float, pace: float) -> int:
    child = os.fork()
    if child:
        return child
    try:
        time.sleep(wait)
        os._exit(FINISHED if cell_of(root, pace).rows() == ROWS else BROKEN)
    except SpikeproofError:
        os._exit(FAILED)
    except BaseException:
        traceback.print_exc()
        os._exit(BROKEN)


def main(folder: Path, trials: int, kind: str) -> None:
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"weights")
    lease._LOOK = 0.01
    if kind == "unseen":
        Store.lock = lambda *_, **__: nullcontext(Unlocked())
    else:
        fcntl.flock = lambda *_: None
    chance, failed = random.Random(3), 0
    for trial in range(trials):
        root, pace = folder / f"trial-{trial}", 0.002
        both = [start(root, 0.0, pace), start(root, chance.uniform(0, 2 * BATCHES * pace), pace)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in both]
        assert BROKEN not in codes, f"trial {trial}: {codes}"
        assert kind == "unseen" or codes == [FINISHED, FINISHED], f"trial {trial}: {codes}"
        found = [cell.rows() for cell in Store(root).cells()]
        assert found == [ROWS] or (not found and codes == [FAILED, FAILED]), f"trial {trial}: {codes}"
        failed += FAILED in codes
        assert cell_of(root, 0.0).rows() == ROWS, f"the run after trial {trial}"
    assert (failed > 0) == (kind == "unseen"), "they met, where they could"
    print(f"{trials} trials, {failed} failed")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
