"""One cell by several runs: its rows are those of one run, in every byte, whoever dies in the middle."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tinycell import NUMBERS, WIDER, smallest
from tinypanel import panelled

from spikeproof.errors import UsageError
from spikeproof.store.pieces import Pieces
from spikeproof.store.store import Cell, Store
from spikeproof.study import run
from spikeproof.study.config import CellConfig, cell_from
from spikeproof.study.run import run_cell
from spikeproof.study.sharded import Sharded
from spikeproof.study.together import Merging, terms_of
from spikeproof.study.trained import Machine

QUIET = Machine(progress=False)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def every_kind(once: str = "") -> CellConfig:
    """A cell with a panel, pixels and the paper's; its network has learnt enough for its panel to have a slack.

    once: a file that is not there; the process that makes it, in the midst of the pixels, dies.
    """
    panel = {**panelled()["evaluations"][0], "eps": [0.05], "batch_size": 4}
    traced = {
        "name": "pixels",
        "eps": [0.1],
        "attacks": {"fgsm": {"name": "tinycell:FgsmThatDiesOnce", "once": once}},
        "batch_size": 1,
    }
    paper = {"name": "paper", "protocol": "paper", "images": 4}
    learns = {
        "model": WIDER,
        "recipe": {**panelled()["recipe"], "epochs": 8, "lr": 0.03},
        "train_images": 400,
    }
    return cell_from(panelled(evaluations=[panel, traced, paper], test_images=16, **learns))


def numbers(cell: Cell) -> dict[str, Any]:
    """Every byte of its rows, and its results."""
    rows = {name: (cell.folder / name).read_bytes() for name in NUMBERS}
    return {**rows, "results": json.dumps(cell.summary["results"])}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Cell:
    """That of one run; not to be changed."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    cell = run_cell(every_kind(), Store(tmp_path_factory.mktemp("alone")), QUIET)
    torch.set_num_threads(before)
    (panel,) = cell.summary["results"]["panels"]
    assert panel["slack"]["expected"] > 0
    return cell


@pytest.fixture(scope="module")
def alone(undisturbed: Cell) -> dict[str, Any]:
    return numbers(undisturbed)


def test_workers_at_one_cell_of_which_one_is_killed_make_its_rows(tmp_path: Path, alone: dict[str, Any]) -> None:
    died = tmp_path / "died"
    (outcome,) = Sharded(3).run([every_kind(str(died))], Store(tmp_path / "shared"), QUIET)
    assert outcome.cell is not None, outcome.error
    assert died.is_file()
    assert numbers(outcome.cell) == alone
    assert not list((tmp_path / "shared" / "cells").glob("*.p*"))


def test_a_run_that_comes_to_help_when_the_cell_is_finished_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, config, sharing = Store(tmp_path), cell_from(smallest()), replace(QUIET, shares=True)
    first, helped, folders = ExitStack(), run._help, list[bool]()

    def help_late(given: Any) -> None:
        first.close()
        run.run_cell(config, store, sharing)
        helped(given)
        folders.append((tmp_path / "cells" / f"{given.key}.pieces").is_dir())

    key = run.run_cell(config, Store(tmp_path / "named"), QUIET).key
    first.enter_context(store.lock(key))
    monkeypatch.setattr(run, "_help", help_late)
    cell = run.run_cell(config, store, sharing)
    assert cell.damage() is None
    assert folders == [True], "nothing came late"
    assert [path.name for path in (tmp_path / "cells").iterdir()] == [key]


@pytest.mark.parametrize("runs", [1, 7])
def test_any_number_of_runs_that_join_make_the_rows_of_one(
    tmp_path: Path, runs: int, undisturbed: Cell, alone: dict[str, Any]
) -> None:
    store, found = Store(tmp_path / "shared"), list[dict[str, Any]]()
    # Trained before there are threads, which share torch's stream of random numbers.
    shutil.copytree(undisturbed.folder.parents[1] / "models", store.root / "models")

    def join() -> None:
        torch.set_num_threads(1)
        found.append(numbers(run_cell(every_kind(), store, replace(QUIET, shares=True))))

    joined = [threading.Thread(target=join) for _ in range(runs)]
    for one in joined:
        one.start()
    for one in joined:
        one.join()
    assert found == [alone] * runs


def test_a_damaged_piece_is_made_again_and_a_piece_of_another_is_taken(tmp_path: Path) -> None:
    store = Store(tmp_path)
    pieces = Pieces(store, "k", {})
    made: list[int] = []

    def work(number: int) -> Any:
        return lambda: made.append(number) or [{"n": number}]

    for number in range(3):
        assert pieces.make("s", number, work(number))
    (pieces.folder / "s.1").write_bytes(b"torn")
    merging = Merging(store.draft("k"), pieces)
    assert list(merging.made("s", 0, [work(n) for n in range(4)], needed=True)) == [[{"n": n}] for n in range(4)]
    assert made[:3] == [0, 1, 2]
    assert sorted(made[3:]) == [1, 3]


def test_runs_whose_last_bits_may_differ_do_not_share_a_cell(tmp_path: Path) -> None:
    Pieces(Store(tmp_path), "k", {"torch": "1", "threads": 1})
    Pieces(Store(tmp_path), "k", {"torch": "1", "threads": 1})
    with pytest.raises(UsageError, match=r"threads 1.*threads 2"):
        Pieces(Store(tmp_path), "k", {"torch": "1", "threads": 2})
    assert not list((tmp_path / "cells" / "k.pieces").glob(".terms*"))
    assert terms_of(QUIET)["threads"] == 1


def test_the_papers_protocol_is_one_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[str] = []

    def look(store: Store, key: str) -> None:
        kept.extend(path.name for path in (store.root / "cells" / f"{key}.pieces").glob("attack-*"))

    monkeypatch.setattr(Pieces, "clear", look)
    run_cell(cell_from(smallest()), Store(tmp_path), replace(QUIET, shares=True))
    assert sorted(kept) == ["attack-paper.0", *(f"attack-pixels.{n}" for n in range(4))]
