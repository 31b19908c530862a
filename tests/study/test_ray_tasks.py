"""The engine of Ray without one: a stand-in that runs each task at once, in this process. A real one: tests/cluster."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from tinycell import numbers, smallest

from spikeproof.commands import main
from spikeproof.errors import SpikeproofError
from spikeproof.store.store import Store
from spikeproof.study import ray_tasks
from spikeproof.study.config import Study
from spikeproof.study.failures import failure
from spikeproof.study.handout import hand_out
from spikeproof.study.here import Here
from spikeproof.study.plan import Planned, plan
from spikeproof.study.ray_tasks import RayTasks
from spikeproof.study.trained import Machine

QUIET = Machine(progress=False)

STUDY = Study(
    "two", smallest(evaluations=[{"name": "pixels", "eps": [0.1], "attacks": {"f": {"name": "fgsm"}}}]), {}, [0, 1]
)


class RayError(Exception):
    pass


class Standin:
    """As much of the module `ray` as the engine uses. lost: the numbers of the tasks that end with their node."""

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self, lost: tuple[int, ...] = ()) -> None:
        self.lost, self.asked, self.ended = lost, list[dict[str, Any]](), False
        self._results: list[Any] = []

    def remote(self, **asked: Any) -> Any:
        self.asked.append(asked)

        def decorated(function: Any) -> Any:
            def call(task: Any) -> int:
                number = len(self._results)
                self._results.append(RayError("node died") if number in self.lost else function(task))
                return number

            return SimpleNamespace(remote=call)

        return decorated

    def wait(self, references: list[int]) -> tuple[list[int], list[int]]:
        return references[:1], references[1:]

    def get(self, reference: int) -> Any:
        if isinstance(result := self._results[reference], Exception):
            raise result
        return result

    def cancel(self, reference: int, *, force: bool) -> None:
        raise AssertionError("nothing is left running")

    def shutdown(self) -> None:
        self.ended = True


@pytest.fixture(scope="module")
def planned() -> list[Planned]:
    return plan(STUDY.cells(), QUIET, STUDY.refused)


def engine(
    store: Store, planned: list[Planned], ray: Standin, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> RayTasks:
    monkeypatch.setattr(ray_tasks, "_connected", lambda _: ray)
    digest = hand_out(store, planned, QUIET, 1, "two")
    return RayTasks(2, digest, {one.config.name: one.key for one in planned}, **options)


def test_tasks_give_the_rows_of_one_process_and_ask_for_a_core_each(
    tmp_path: Path, planned: list[Planned], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, ray = Store(tmp_path / "runs"), Standin()
    cells = [one.config for one in planned]
    outcomes = list(engine(store, planned, ray, monkeypatch).run(cells, store, QUIET))
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert [outcome.cell.damage() for outcome in outcomes if outcome.cell] == [None, None]
    assert ray.ended
    assert [(asked["num_cpus"], asked["num_gpus"]) for asked in ray.asked] == [(1, 0)]
    list(Here().run(cells, Store(tmp_path / "here"), QUIET))
    assert numbers(store.root) == numbers(tmp_path / "here")


def test_what_the_cluster_loses_is_an_error_of_that_cell(
    tmp_path: Path, planned: list[Planned], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    first, second = engine(store, planned, Standin(lost=(0,)), monkeypatch).run(
        [one.config for one in planned], store, QUIET
    )
    assert first.error == "lost by the Ray cluster 6 times: node died"
    assert (second.error, second.cell is not None) == (None, True)


def test_a_cell_that_another_command_is_at_is_waited_for_last(
    tmp_path: Path, planned: list[Planned], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path, patience=0.0)
    with Store(tmp_path).lock(planned[0].key):
        outcomes = list(
            engine(store, planned, Standin(), monkeypatch).run([one.config for one in planned], store, QUIET)
        )
    assert [(outcome.config.seed, outcome.cell is None, outcome.error) for outcome in outcomes] == [
        (1, False, None), (0, True, None),
    ]  # fmt: skip


def test_a_folder_that_the_nodes_have_for_themselves_is_told(
    tmp_path: Path, planned: list[Planned], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cell is done, and not here."""
    store, ray = Store(tmp_path), Standin()
    running = engine(store, planned, ray, monkeypatch)
    got = ray.get

    def vanished(reference: int) -> Any:
        said = got(reference)
        shutil.rmtree(store.root / "cells")
        return said

    monkeypatch.setattr(ray, "get", vanished)
    (outcome,) = running.run([planned[0].config], store, QUIET)
    assert outcome.error is not None
    assert "which a node has made, got none here; to mend: --out a folder that every node sees" in outcome.error


def test_a_node_with_another_version_refuses_its_cells(
    tmp_path: Path, planned: list[Planned], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    running = engine(store, planned, Standin(), monkeypatch)
    (path,) = (tmp_path / "plans").iterdir()
    monkeypatch.setattr("spikeproof.study.handout.torch.__version__", "2.0.0")
    (outcome,) = running.run([planned[0].config], store, QUIET)
    assert outcome.error is not None
    assert f"which planned {path}, got 2.0.0" in outcome.error
    assert "--allow torch" in outcome.error
    assert not (tmp_path / "cells").exists()


def test_without_ray_its_extra_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump({"title": "two", "base": STUDY.base, "seeds": [0]}), encoding="utf-8")
    assert main(["study", str(path), "--engine", "ray", "--out", str(tmp_path / "runs")]) == 2
    assert "pip install 'spikeproof[ray]'" in capsys.readouterr().err


def test_a_head_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", Standin())
    monkeypatch.setattr(ray_tasks, "_ASK", "import time; time.sleep(60)")
    monkeypatch.setattr(ray_tasks, "_PATIENCE", 0.2)
    with pytest.raises(SpikeproofError, match="expected a Ray cluster at here:1, got no answer in 0 s"):
        ray_tasks._connected("here:1")
    monkeypatch.setattr(ray_tasks, "_ASK", "raise ConnectionError('no head')")
    monkeypatch.setattr(ray_tasks, "_PATIENCE", 60.0)
    with pytest.raises(SpikeproofError, match="got ConnectionError: no head; to mend: ray start --head"):
        ray_tasks._connected("here:1")


def test_a_failure_is_kept_for_status_and_forgotten_when_the_cell_is_done(
    tmp_path: Path, planned: list[Planned], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, key = Store(tmp_path), planned[0].key
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / f"{key}.partial").write_text("in the way", encoding="utf-8")
    running = engine(store, planned, Standin(), monkeypatch)
    (outcome,) = running.run([planned[0].config], store, QUIET)
    assert outcome.error is not None
    assert (failure(store, key) or "").startswith(outcome.error)
    (tmp_path / "cells" / f"{key}.partial").unlink()
    (again,) = running.run([planned[0].config], store, QUIET)
    assert again.error is None
    assert failure(store, key) is None
