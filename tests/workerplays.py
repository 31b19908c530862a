"""What befalls workers of a planned study, played with processes that are forked from this one, which has imported all.

Run as `python workerplays.py FOLDER [NAME ...]`, with TRACE in the environment; prints {name: what went wrong, or ''}.
Two are played at a time, since workers that wait are what some are about.
With KILLS=30 there, `workers_are_killed_and_lose_nothing` kills thirty times instead of three.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path

import tinycell
import torch

from spikeproof.commands import main
from spikeproof.store.store import Store
from spikeproof.study.config import Study
from spikeproof.study.handout import hand_out, read
from spikeproof.study.here import Here
from spikeproof.study.plan import plan
from spikeproof.study.run import Machine
from spikeproof.study.status import states

QUIET = Machine(progress=False)

KILLS = int(os.environ.get("KILLS", "3"))

STUDY = Study(
    "worked",
    {
        **tinycell.tiny(train_images=40, test_images=10, model=tinycell.SMALLEST),
        "encoder": {"name": "direct"},
        "recipe": {"epochs": 2, "batch_size": 16, "validation_share": 0.25},
        "defence": {"name": "tinycell:Step"},
        "evaluations": [{"name": "pixels", "eps": [0.1], "attacks": {"f": {"name": "tinycell:Fgsm"}}, "batch_size": 2}],
        "gradients": {"images": 2, "weight_images": 1, "batch_size": 1, "layers": False},
    },
    {"network": {"max": {}, "avg": {"model.pool": "avg"}, "other": {"seed": 1}}},
)
CELLS = len(STUDY.cells())

WHOLE: dict[str, bytes] = {}
"""The numbers of the study's cells, undisturbed."""

ONCE: list[str] = []
"""What happens when each cell is done once."""


class Play:
    """A folder with a plan, and workers on it; `wait` for one gives its exit code, `said` what it said."""

    def __init__(self, folder: Path, study: Study = STUDY) -> None:
        self.root, self.folder = folder / "runs", folder
        self.store = Store(self.root)
        self.planned = plan(study.cells(), QUIET, study.refused)
        self.digest = hand_out(self.store, self.planned, QUIET, 1, study.title)
        self._said = 0

    def start(self, *more: str, before: Callable[[], object] = lambda: None) -> int:
        """A worker; returns its number. before: called in its process."""
        self._said += 1
        child = os.fork()
        if child:
            return child
        with open(self.folder / f"said-{self._said}", "w", encoding="utf-8", buffering=1) as said:
            os.dup2(said.fileno(), 2)
        code = 99
        try:
            before()
            code = main(["worker", str(self.root), "--trust", *more])
        except BaseException:
            traceback.print_exc()
        os._exit(code)

    def work(self, *more: str, before: Callable[[], object] = lambda: None) -> int:
        return ended(self.start(*more, before=before))

    @property
    def said(self) -> str:
        return (self.folder / f"said-{self._said}").read_text(encoding="utf-8")

    def check_whole(self) -> None:
        assert tinycell.numbers(self.root) == WHOLE, "other numbers than undisturbed"
        assert not list(self.root.glob("*/*.partial"))


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def happened() -> int:
    return len(tinycell.events(Path(os.environ[tinycell.TRACE])))


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "a minute"
        time.sleep(0.002)


def play_the_cells_of_a_plan_are_done_once(folder: Path) -> None:
    play = Play(folder)
    assert play.work() == 0, play.said
    play.check_whole()
    assert happened() == len(ONCE)
    assert play.work() == 0
    assert happened() == len(ONCE)
    assert f"0 cells done here, of {CELLS} planned" in play.said


def play_two_workers_share_and_neither_ends_with_0_before_all_is_done(folder: Path) -> None:
    play = Play(folder)
    codes = [ended(child) for child in [play.start(), play.start()]]
    assert set(codes) <= {0, 75}, codes
    assert 0 in codes
    play.check_whole()


def play_two_engines_share_a_folder(folder: Path) -> None:
    """The local one, cell after cell, and a worker; each event of a cell happens once."""
    play = Play(folder)
    local = os.fork()
    if not local:
        code = 99
        try:
            outcomes = list(Here().run([one.config for one in play.planned], play.store, QUIET))
            code = int(any(outcome.cell is None for outcome in outcomes))
        finally:
            os._exit(code)
    worker = play.start("--wait", "60")
    assert (ended(local), ended(worker)) == (0, 0), play.said
    assert happened() == len(ONCE), "a batch was made twice, or not at all"
    play.check_whole()


def play_what_others_are_at_is_waited_for_or_75(folder: Path) -> None:
    play = Play(folder)
    with play.store.lock(play.planned[0].key):
        assert play.work() == 75
        assert f"expected all {CELLS} cells, got 1 that other workers are at" in play.said
        assert len(tinycell.numbers(play.root)) == (CELLS - 1) * len(tinycell.NUMBERS)
        waiting = play.start("--wait", "60")
        time.sleep(1.5)
        assert os.waitpid(waiting, os.WNOHANG) == (0, 0)
    assert ended(waiting) == 0
    play.check_whole()


def play_a_network_that_another_trains_is_waited_for_without_being_told(folder: Path) -> None:
    """Its cells are free, and come to be done here."""
    play = Play(folder)
    with play.store.lock(f"model-{play.planned[0].model}"):
        waiting = play.start()
        until(lambda: len(tinycell.numbers(play.root)) == (CELLS - 1) * len(tinycell.NUMBERS))
        time.sleep(1.5)
        assert os.waitpid(waiting, os.WNOHANG) == (0, 0)
    assert ended(waiting) == 0
    play.check_whole()


def play_a_signal_ends_a_worker_at_a_batch(folder: Path) -> None:
    _signalled(folder, signal.SIGUSR1, 138)


def play_sigterm_too(folder: Path) -> None:
    _signalled(folder, signal.SIGTERM, 143)


def _signalled(folder: Path, number: signal.Signals, wanted: int) -> None:
    play = Play(folder)
    child = play.start()
    until(lambda: list(play.root.glob("cells/*.partial/attack-pixels.part")))
    os.kill(child, number)
    assert ended(child) == wanted, play.said
    assert f"stopped by {number.name}; what is written is kept" in play.said
    # None where the batch was the last of its stage, or of its cell.
    for part in play.root.glob("cells/*.partial/*.part"):
        assert part.read_bytes().endswith(b"\n")
    at_signal = happened()
    assert play.work() == 0
    assert happened() > at_signal
    play.check_whole()


def play_what_writes_no_batch_ends_when_the_grace_is_over(folder: Path) -> None:
    held = Study("held", {**STUDY.base, "defence": {"name": "trouble:Waits"}}, {}, [0])
    play = Play(folder, held)
    child = play.start("--grace", "0.2")
    until(lambda: list(Path(os.environ[tinycell.TRACE]).parent.glob("pid-*")))
    os.kill(child, signal.SIGUSR1)
    assert ended(child) == 1, play.said
    assert "to mend: a longer limit of time" in play.said
    (state,) = states([one.called for one in play.planned], play.store)
    assert "failed: expected time for a batch" in state.detail


def play_a_cell_that_kills_its_process_is_an_error_and_the_others_go_on(folder: Path) -> None:
    study = Study("dies", STUDY.base, {"d": {"dies": {"defence.name": "trouble:Dies"}, "fine": {}}}, [0])
    play = Play(folder, study)
    assert play.work() == 1
    assert "dies: FAILED: its process died: killed by SIGKILL" in play.said
    assert "fine: done" in play.said
    dead, fine = states([one.called for one in play.planned], play.store)
    assert dead.state in ("missing", "partial")
    assert "failed: its process died" in dead.detail
    assert fine.state == "finished"


def play_a_full_disk_is_an_error_of_that_cell(folder: Path) -> None:
    """A limit on the size of a file, which gives the error of a disk; the rows of one cell alone are beyond it."""
    long = {"evaluations": [{**STUDY.base["evaluations"][0], "batch_size": 10}], "test_images": 80}
    study = Study("full", STUDY.base, {"size": {"long": long, "short": {}}}, [0])
    play = Play(folder, study)

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    whole = Play(folder / "whole", study)
    assert whole.work() == 0
    shutil.copytree(whole.root / "models", play.root / "models")
    sizes = [max(path.stat().st_size for path in (whole.root / "cells" / one.key).iterdir()) for one in whole.planned]
    size = (sizes[0] + sizes[1]) // 2
    assert sizes[1] < size < sizes[0], sizes
    assert play.work(before=limited) == 1
    assert "long: FAILED: expected to write" in play.said
    assert "File too large; to mend: free some space and start again" in play.said
    assert "short: done" in play.said
    assert play.work() == 0
    assert tinycell.numbers(play.root) == tinycell.numbers(whole.root)


def play_a_lock_that_is_lost_is_an_error_of_no_cell(folder: Path) -> None:
    """Another run has the cell's folder meanwhile, as where locks do not hold."""
    play = Play(folder)
    child = play.start()
    until(lambda: list(play.root.glob("cells/*.partial/attack-pixels.part")))
    (draft,) = play.root.glob("cells/*.partial")
    (draft / "owner").write_bytes(b"another")
    assert ended(child) == 1
    assert "got another one, begun since" in play.said
    assert len(tinycell.numbers(play.root)) == (CELLS - 1) * len(tinycell.NUMBERS)
    assert play.work() == 0
    play.check_whole()


def play_another_folder_and_other_versions_are_refused(folder: Path) -> None:
    play = Play(folder)
    assert play.work("--plan", "0" * 16) == 2
    assert "a folder that every machine sees under this path" in play.said
    path = read(play.store).path
    facts, _, rest = path.read_text(encoding="utf-8").partition("\n")
    path.write_text(facts + "\n" + rest.replace('"epochs": 2', '"epochs": 4'), encoding="utf-8")
    assert play.work("--plan", play.digest) == 2
    assert "got other bytes" in play.said
    path.unlink()
    other = facts.replace(f'"torch": "{json.loads(facts)["torch"]}"', '"torch": "2.0.0"')
    assert other != facts
    renamed(path, other + "\n" + rest)
    assert play.work() == 2
    assert "expected torch 2.0.0, which planned" in play.said
    assert "--allow torch" in play.said
    assert play.work("--allow", "tensorflow") == 2
    assert not list(play.root.glob("cells/*"))
    assert play.work("--allow", "torch") == 0
    play.check_whole()


def play_other_data_than_planned_are_an_error_of_that_cell(folder: Path) -> None:
    """A plan of another machine, whose key for a cell does not come out here."""
    play = Play(folder)
    path, key = read(play.store).path, play.planned[0].key
    text = path.read_text(encoding="utf-8")
    path.unlink()
    renamed(path, text.replace(key, "f" * 16))
    assert play.work() == 1
    assert "max: FAILED: expected a cell as it was planned" in play.said
    assert len(tinycell.numbers(play.root)) == (CELLS - 1) * len(tinycell.NUMBERS)


def renamed(path: Path, text: str) -> None:
    """A plan under the name that its bytes give it."""
    from hashlib import sha256

    path.with_name(f"{sha256(text.encode()).hexdigest()[:16]}.jsonl").write_text(text, encoding="utf-8")


def play_workers_are_killed_and_lose_nothing(folder: Path) -> None:
    """A worker, or the process of its cell, at random events; when all is done, from the beginning."""
    play, chance, killed = Play(folder), random.Random(5), 0
    crew = [play.start(), play.start()]
    while killed < KILLS:
        _until_happened(happened() + chance.randint(1, 4), play)
        victim = crew.pop(chance.randrange(2))
        cells = Path(f"/proc/{victim}/task/{victim}/children").read_text(encoding="utf-8").split()
        if cells and chance.random() < 0.5:
            os.kill(int(cells[0]), signal.SIGKILL)
            killed += 1
        os.kill(victim, signal.SIGKILL)
        killed += ended(victim) == -signal.SIGKILL
        if len(tinycell.numbers(play.root)) == len(WHOLE):
            play.check_whole()
            until(lambda: not any(play.store.locked(one.key) for one in play.planned))
            shutil.rmtree(play.root / "cells")
            shutil.rmtree(play.root / "models")
        crew.append(play.start())
    for child in crew:
        ended(child)
    until(lambda: not any(play.store.locked(one.key) for one in play.planned))  # cells end with their workers
    assert play.work("--wait", "60") == 0, play.said
    play.check_whole()


def _until_happened(target: int, play: Play) -> None:
    until(lambda: happened() >= target or len(tinycell.numbers(play.root)) == len(WHOLE))


@cache
def plays() -> dict[str, Callable[[Path], None]]:
    return {name.removeprefix("play_"): made for name, made in globals().items() if name.startswith("play_")}


def main_of_plays(folder: Path, names: list[str]) -> dict[str, str]:
    from spikeproof.training.train import Recipe

    torch.set_num_threads(1)
    Recipe().build([torch.zeros(1, requires_grad=True)])  # the first optimiser imports a second's worth of torch
    list(Here().run(STUDY.cells(), Store(folder / "undisturbed"), QUIET))
    WHOLE.update(tinycell.numbers(folder / "undisturbed"))
    ONCE.extend(tinycell.events(Path(os.environ[tinycell.TRACE])))
    assert len(WHOLE) == CELLS * len(tinycell.NUMBERS)
    left, playing, found = [*(names or plays())], dict[int, str](), dict[str, str]()
    while left or playing:
        while left and len(playing) < 2:
            name = left.pop(0)
            playing[_begun(name, folder / name)] = name
        child, status = os.wait()
        name = playing.pop(child)
        found[name] = (folder / name / "wrong").read_text(encoding="utf-8") if status == 0 else f"its process: {status}"
    return found


def _begun(name: str, folder: Path) -> int:
    """A play in a process of its own, with a trace of its own; returns its number."""
    folder.mkdir()
    child = os.fork()
    if child:
        return child
    os.environ[tinycell.TRACE] = str(folder / "trace")
    own, started, wrong = os.getpid(), time.perf_counter(), ""
    try:
        plays()[name](folder)
    except BaseException:
        wrong = traceback.format_exc()
    if os.getpid() != own:  # a fork of the play's, which says by its end what became of it
        os._exit(99)
    (folder / "wrong").write_text(wrong, encoding="utf-8")
    print(f"{time.perf_counter() - started:5.1f} s {name}", file=sys.stderr, flush=True)
    os._exit(0)


def tell(folder: Path, *names: str) -> None:
    print(json.dumps(main_of_plays(folder, [*names])))


if __name__ == "__main__":
    tell(Path(sys.argv[1]), *sys.argv[2:])
