"""Running cells: what is done is skipped, what was stopped goes on to the same bytes, and nothing is done twice."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import crashes
import pytest
import tinycell
import torch
import warm
import yaml
from PIL import Image
from safetensors.torch import load
from tinycell import numbers, smallest, tiny
from tinypanel import panelled

from spikeproof import parts
from spikeproof.data.digits import Digits
from spikeproof.errors import SpikeproofError
from spikeproof.evaluation import panel
from spikeproof.metrics.verdict import verdict_of
from spikeproof.store.store import Cell, Store
from spikeproof.study import run as made
from spikeproof.study import trained
from spikeproof.study.config import CellConfig, Study, cell_from
from spikeproof.study.here import Here
from spikeproof.study.run import Machine, key_of_cell, run_cell
from spikeproof.study.trained import key_of_model

QUIET = Machine(progress=False)


DATA = {"train": "a", "test": "b"}


def cell(config: CellConfig) -> str:
    return key_of_cell(config, DATA, "cpu")


def model(config: CellConfig) -> str:
    return key_of_model(config, "a", "cpu")


def key(**changes: Any) -> str:
    return cell(cell_from(tiny(**changes)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Cell]:
    """The tiny cell of the smallest network, undisturbed; not to be changed."""
    root = tmp_path_factory.mktemp("whole")
    return root, run_cell(cell_from(smallest()), Store(root), QUIET)


# --- keys ---

TRAINING = [
    {"train_images": 70},
    {"model": {"name": "small_sew_resnet", "width": 6}},
    {"model": {"name": "small_sew_resnet", "width": 4, "pool": "avg"}},
    {"neuron": {"name": "lif"}},
    {"neuron": {"name": "if", "v_threshold": 0.5}},
    {"rule": {"name": "triangle"}},
    {"rule": {"name": "atan", "alpha": 3.0}},
    {"encoder": {"name": "phase", "planes": 4}},
    {"encoder": {"name": "phase", "gradient": "straight"}},
    {"steps": 3},
    {"defence": {"name": "adversarial"}},
    {"defence": {"name": "sr", "weight": 0.1}},
    {"training_threat": {"name": "linf", "eps": "1/255"}},
    {"training_threat": {"name": "l2", "eps": "2/255"}},
    {"training_attack": {"name": "pgd"}},
    *({"recipe": {**tiny()["recipe"], **change}} for change in (
        {"optimiser": "sgd"}, {"lr": 0.02}, {"weight_decay": 0.0}, {"momentum": 0.8}, {"schedule": "cosine"},
        {"epochs": 3}, {"batch_size": 9}, {"flip": False}, {"validation_share": 0.3}, {"select": "loss"},
    )),
    {"seed": 1},
]  # fmt: skip
PIXELS, PAPER = tiny()["evaluations"]
EXAMINATION = [
    {"name": "another"},
    {"test_images": 11},
    *({"evaluations": [{**PIXELS, **change}, PAPER]} for change in (
        {"name": "p"}, {"eps": [0.2]}, {"eps": [0.1, 0.2]}, {"norm": "l2"}, {"surface": "encoded"}, {"loss": "margin"},
        {"attacks": {"fgsm": {"name": "rfgsm"}}}, {"attacks": {"f": {"name": "fgsm"}}}, {"images": 9},
        {"rule": {"name": "triangle"}}, {"encoder": {"name": "phase", "gradient": "weighted"}}, {"batch_size": 4},
        {"estimator": {"name": "assg"}},
    )),
    {"evaluations": [PIXELS, {**PAPER, "images": 5}]},
    {"evaluations": [PAPER, PIXELS]},
    {"evaluations": [PIXELS]},
    *({"gradients": {**tiny()["gradients"], **change}} for change in (
        {"images": 5}, {"weight_images": 1}, {"scalars": ["margin"]}, {"layers": False}, {"train_mode": True},
        {"batch_size": 3},
    )),
    *({"generalisation": change} for change in (
        {"corruption_images": 3}, {"robust_images": 3}, {"eps": 0.2}, {"steps": 3}, {"corruptions": ["jpeg"]},
    )),
    {"energy": {"images": 3}},
    *({"theory": change} for change in ({"images": 3}, {"weight_images": 3}, {"eps": 0.2}, {"draws": 9}, {"steps": 3})),
    {"headline": {"evaluation": "paper"}},
]  # fmt: skip


def test_any_value_that_differs_gives_another_key_and_only_those_of_training_another_network() -> None:
    base = cell_from(tiny())
    resolved = [cell_from(tiny(**change)) for change in (*TRAINING, *EXAMINATION)]
    keys = [cell(base), *(cell(tree) for tree in resolved)]
    assert len(set(keys)) == len(keys)
    models = [model(base), *(model(tree) for tree in resolved[: len(TRAINING)])]
    assert len(set(models)) == len(models)
    assert {model(tree) for tree in resolved[len(TRAINING) :]} == {model(base)}


def turned(tree: Any) -> Any:
    """The same mappings, written backwards."""
    if isinstance(tree, dict):
        # All but the order of attacks, which decides numbers in the paper's protocol.
        return {k: v if k == "attacks" else turned(v) for k, v in reversed(tree.items())}
    return [turned(v) for v in tree] if isinstance(tree, list) else tree


def test_equal_configurations_have_equal_keys_however_they_are_written() -> None:
    resolved = cell_from(tiny()).resolved()
    assert key() == cell(cell_from(resolved)) == cell(cell_from(turned(tiny())))
    assert key() == cell(cell_from(turned(yaml.safe_load(yaml.safe_dump(resolved)))))
    spelled = copy.deepcopy(tiny())
    spelled["model"]["pool"], spelled["seed"], spelled["recipe"]["optimiser"] = "max", 0, "adam"
    assert key() == cell(cell_from(spelled))


def test_the_code_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before, network = key(), model(cell_from(tiny()))
    monkeypatch.setattr(made, "rows_code", lambda *_, **__: "another")
    assert key() != before
    assert model(cell_from(tiny())) == network
    monkeypatch.setattr(trained, "weights_code", lambda *_: "another")
    assert model(cell_from(tiny())) != network


def test_the_data_the_device_and_the_order_of_attacks_are_in_the_key_and_where_data_lie_is_not() -> None:
    one, other = cell_from(tiny()), {**DATA, "test": "c"}
    assert len({key_of_cell(one, DATA, "cpu"), key_of_cell(one, other, "cpu"), key_of_cell(one, DATA, "cuda")}) == 3
    assert key_of_cell(one, DATA, "cuda:0") == key_of_cell(one, DATA, "cuda:1")
    assert len({key_of_model(one, "a", "cpu"), key_of_model(one, "b", "cpu"), key_of_model(one, "a", "cuda")}) == 3
    moved = cell_from(tiny(data={"name": "image_folder", "root": "elsewhere"}))
    assert model(moved) == model(one)
    assert cell(moved) == cell(one)
    attacks = {"fgsm": {"name": "fgsm"}, "rfgsm": {"name": "rfgsm"}}
    for protocol in ({}, {"protocol": "paper"}):
        one, turned_round = (
            cell_from(tiny(evaluations=[{**protocol, "eps": [0.1], "attacks": dict(order)}]))
            for order in (attacks.items(), reversed(attacks.items()))
        )
        assert cell(one) != cell(turned_round)


# --- one cell ---


def test_a_cell_holds_what_its_configuration_asks_for(whole: tuple[Path, Cell]) -> None:
    _, cell = whole
    assert cell.damage() is None
    assert cell.config == cell_from(smallest()).resolved()
    rows = cell.rows()
    assert [len([r for r in rows if r["kind"] == "clean" and r["split"] == s]) for s in ("test", "validation", "train")
            ] == [10, 10, 50]  # fmt: skip
    attacks = [(r["evaluation"], r["attack"], r["image"]) for r in rows if r["kind"] == "attack"]
    assert len(set(attacks)) == len(attacks) == 10 + 4 * 2
    assert [e["epoch"] for e in cell.history()] == [1, 2]
    assert {r["site"] for r in cell.gradients()} >= {"image", "encoded", "weights"}
    assert cell.provenance["best_epoch"] in (1, 2)
    assert (cell.folder / "README.md").read_text(encoding="utf-8").startswith("---\n")


def test_no_training_or_validation_image_is_a_test_image(whole: tuple[Path, Cell]) -> None:
    rows = [r for r in whole[1].rows() if r["kind"] == "clean"]
    ids = {s: {r["image"] for r in rows if r["split"] == s} for s in ("test", "validation", "train")}
    assert not ids["test"] & (ids["validation"] | ids["train"])
    assert not ids["validation"] & ids["train"]
    assert ids["validation"] | ids["train"] <= set(Digits().load("train").ids.tolist())
    attacked = {r["image"] for r in whole[1].rows() if r["kind"] == "attack"}
    assert attacked | {r["image"] for r in whole[1].gradients()} <= ids["test"]


def test_the_same_cell_elsewhere_has_the_same_bytes_and_leaves_the_random_stream_alone(
    whole: tuple[Path, Cell], tmp_path: Path
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        before = torch.random.get_rng_state()
        run_cell(cell_from(smallest()), Store(tmp_path), QUIET)
        assert torch.equal(torch.random.get_rng_state(), before)
    assert numbers(tmp_path) == numbers(whole[0])
    assert len(numbers(tmp_path)) == 3


def test_another_seed_gives_other_numbers(whole: tuple[Path, Cell], tmp_path: Path) -> None:
    other = run_cell(cell_from(smallest(seed=1)), Store(tmp_path), QUIET)
    assert other.history() != whole[1].history()
    assert other.rows() != whole[1].rows()


def test_nothing_is_left_beside_the_results(whole: tuple[Path, Cell]) -> None:
    root, cell = whole
    assert sorted(p.name for p in root.iterdir()) == ["cells", "locks", "models"]
    assert [p.name for p in (root / "cells").iterdir()] == [cell.key]
    assert sorted(p.name for p in root.glob("models/*/*")) == ["model.safetensors", "model.sha256", "training.json"]
    assert not list(root.rglob("*.tmp")) + list(root.rglob("*.part")) + list(root.rglob("*.partial"))


def test_equal_runs_write_equal_weights_and_say_the_time_beside_them(whole: tuple[Path, Cell], tmp_path: Path) -> None:
    again = run_cell(cell_from(smallest()), Store(tmp_path), QUIET)
    for pattern in ("models/*/model.safetensors", "cells/*/model.safetensors"):
        (one,), (other,) = whole[0].glob(pattern), tmp_path.glob(pattern)
        assert one.read_bytes() == other.read_bytes()
    (beside,) = tmp_path.glob("models/*/training.json")
    cost = json.loads(beside.read_text(encoding="utf-8"))
    assert 0 <= cost["train_seconds"] < 60
    assert cost["trained_on"] == again.provenance["machine"]
    assert {name: again.provenance.get(name) for name in cost} == cost


def test_a_network_whose_weights_were_given_has_no_cost(whole: tuple[Path, Cell], tmp_path: Path) -> None:
    given = tmp_path / "model.safetensors"
    given.write_bytes((whole[1].folder / "model.safetensors").read_bytes())
    (tmp_path / "training.json").write_text("another program's", encoding="utf-8")
    cell = run_cell(cell_from(smallest(weights=str(given))), Store(tmp_path / "runs"), QUIET)
    assert cell.provenance["train_seconds"] is None
    assert cell.provenance["trained_on"] is None
    assert cell.history() == whole[1].history()


# --- done once ---


def watched(**changes: Any) -> dict[str, Any]:
    """A cell with parts that leave a trace: 20 steps of training, and 3 batches attacked by one attack."""
    return smallest(
        train_images=200,
        test_images=30,
        encoder={"name": "direct"},
        recipe={"epochs": 2, "batch_size": 16, "lr": 0.02, "flip": False, "validation_share": 0.2},
        defence={"name": "tinycell:Step"},
        evaluations=[
            {"name": "pixels", "eps": [0.1], "attacks": {"f": {"name": "tinycell:Fgsm"}}, "batch_size": 10},
        ],
        **changes,
    )


STEPS, ATTACKS = 20, 3


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(tinycell.TRACE, str(tmp_path / "trace"))
    return tmp_path / "trace"


def test_a_finished_cell_is_skipped(tmp_path: Path, trace: Path) -> None:
    config, store = cell_from(watched()), Store(tmp_path)
    cell = run_cell(config, store, QUIET)
    assert sorted(tinycell.events(trace)) == ["attack"] * ATTACKS + ["step"] * STEPS
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").rglob("*")}
    assert run_cell(config, store, QUIET) == cell
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").rglob("*")} == times
    assert len(tinycell.events(trace)) == ATTACKS + STEPS


def test_another_examination_does_not_train_again(tmp_path: Path, trace: Path) -> None:
    run_cell(cell_from(watched()), Store(tmp_path), QUIET)
    run_cell(cell_from(watched(name="another")), Store(tmp_path), QUIET)
    assert sorted(tinycell.events(trace)) == ["attack"] * 2 * ATTACKS + ["step"] * STEPS
    assert len(list(tmp_path.glob("models/*"))) == 1
    assert len(list(tmp_path.glob("cells/*"))) == 2


def test_a_damaged_finished_cell_is_set_aside_and_redone(tmp_path: Path, trace: Path) -> None:
    cell = run_cell(cell_from(watched()), Store(tmp_path), QUIET)
    expected = numbers(tmp_path)
    (cell.folder / "rows.jsonl").write_bytes((cell.folder / "rows.jsonl").read_bytes()[:-40])
    again = run_cell(cell_from(watched()), Store(tmp_path), QUIET)
    assert again.damage() is None
    assert numbers(tmp_path) == expected
    assert [p.name for p in (tmp_path / "cells").glob("*.damaged-*")] == [f"{cell.key}.damaged-0"]
    assert sorted(tinycell.events(trace)) == ["attack"] * 2 * ATTACKS + ["step"] * STEPS


@pytest.mark.parametrize("damage", ["edited", "lost"])
def test_a_network_whose_cost_is_not_as_it_was_written_is_damaged(tmp_path: Path, damage: str) -> None:
    trained.trained_victim(cell_from(smallest()), Store(tmp_path), QUIET)
    (path,), (key,) = tmp_path.glob("models/*/training.json"), Store(tmp_path).models()
    assert Store(tmp_path).model_damage(key) is None
    path.write_text('{"train_seconds": 0.1, "trained_on": "a better machine"}', encoding="utf-8")
    if damage == "lost":
        path.unlink()
    assert Store(tmp_path).model_damage(key) == "training.json has changed since it was written"


def test_a_network_of_the_version_that_kept_its_cost_in_the_weights_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "0123"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "model.sha256").write_text(hashlib.sha256(b"weights").hexdigest() + "\n", encoding="ascii")
    assert Store(tmp_path).model_damage("0123") is None


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_network_is_set_aside_and_trained_again(tmp_path: Path, damage: str) -> None:
    config, store = cell_from(smallest()), Store(tmp_path)
    cell = run_cell(config, store, QUIET)
    (path,) = tmp_path.glob("models/*/model.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-10] if damage == "truncated" else whole[:-1] + bytes([whole[-1] ^ 1]))
    (cell.folder / "summary.json").unlink()
    assert run_cell(config, store, QUIET).rows()
    again, before = load(path.read_bytes()), load(whole)
    assert again.keys() == before.keys()
    assert all(torch.equal(again[name], before[name]) for name in before)
    assert [p.name for p in path.parents[1].glob("*.damaged-*")] == [f"{path.parent.name}.damaged-0"]


def test_replaced_images_are_another_cell(tmp_path: Path) -> None:
    def images(shade: int) -> None:
        for split, count in (("train", 6), ("test", 2)):
            for label in ("a", "b"):
                (tmp_path / "data" / split / label).mkdir(parents=True, exist_ok=True)
                for n in range(count):
                    value = (shade + 40 * n + 7 * (label == "b")) % 256
                    Image.new("L", (8, 8), value).save(tmp_path / "data" / split / label / f"{n}.png")

    data = {"name": "image_folder", "root": str(tmp_path / "data"), "channels": 1}
    sizes = {"train_images": None, "test_images": None}
    config, store = cell_from(smallest(data=data, **sizes)), Store(tmp_path / "runs")
    images(0)
    first = run_cell(config, store, QUIET)
    images(20)
    second = run_cell(config, store, QUIET)
    assert first.key != second.key
    assert first.provenance["data"] != second.provenance["data"]
    assert len(list((tmp_path / "runs" / "models").iterdir())) == 2


def test_a_few_images_are_of_every_class(tmp_path: Path) -> None:
    """Images of a folder lie sorted by class; the first few of them would be of one class."""
    rows = run_cell(cell_from(smallest(test_images=40, evaluations=[{"name": "pixels", "eps": [0.1], "images": 20}])),
                    Store(tmp_path), QUIET).rows()  # fmt: skip
    labels = [row["label"] for row in rows if row["kind"] == "attack" and row["attack"] == "fgsm"]
    assert sorted(labels) == [label for label in range(10) for _ in range(2)]
    assert labels != sorted(labels)


@pytest.mark.parametrize("at", [1, 2])
def test_an_attack_that_was_stopped_goes_on_with_the_batch_it_was_at(
    tmp_path: Path, trace: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    run_cell(cell_from(watched()), Store(tmp_path / "whole"), QUIET)
    done = tinycell.events(trace).count("attack")
    real = tinycell.Fgsm.__call__

    def stopping(self: tinycell.Fgsm, *given: Any) -> torch.Tensor:
        if tinycell.events(trace).count("attack") == done + at:
            raise KeyboardInterrupt
        return real(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(tinycell.Fgsm, "__call__", stopping)
        with pytest.raises(KeyboardInterrupt):
            run_cell(cell_from(watched()), Store(tmp_path / "stopped"), QUIET)
    (part,) = tmp_path.glob("stopped/cells/*.partial/attack-pixels.part")
    with open(part, "ab") as file:
        file.write(b'[{"kind":"attack","ima')  # and a line that a kill tore
    clean = part.with_name("clean.jsonl")
    clean.write_bytes(clean.read_bytes().replace(b'"correct":', b'"wrong":', 1) + b"{")  # a stage that the disk spoilt
    run_cell(cell_from(watched()), Store(tmp_path / "stopped"), QUIET)
    assert tinycell.events(trace).count("attack") == done + ATTACKS
    assert numbers(tmp_path / "stopped") == numbers(tmp_path / "whole")


@pytest.fixture(scope="module")
def counted_panel(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Cell, int]:
    """A cell with a panel at two budgets, undisturbed, and how many pieces of its stages were asked for."""
    root, real, calls = tmp_path_factory.mktemp("examined"), panel.outcomes, 0

    def counted(*given: Any) -> list[dict[str, Any]]:
        nonlocal calls
        calls += 1
        return real(*given)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(panel, "outcomes", counted)
        return root, run_cell(cell_from(panelled(model=tinycell.SMALLEST)), Store(root), QUIET), calls


@pytest.fixture(scope="module")
def examined(counted_panel: tuple[Path, Cell, int]) -> tuple[Path, Cell]:
    """The cell alone; not to be changed."""
    return counted_panel[:2]


def test_a_panel_of_a_cell_has_its_rows_and_its_verdict_at_every_budget(examined: tuple[Path, Cell]) -> None:
    _, cell = examined
    assert cell.config == cell_from(cell.config).resolved() == cell_from(panelled(model=tinycell.SMALLEST)).resolved()
    rows = [row for row in cell.rows() if row.get("evaluation") == "panel"]
    for eps in ("1/20", "0.1"):
        mine = [row for row in rows if row["eps_text"] == eps]
        attacks = [(row["attack"], row["image"]) for row in mine if row["kind"] == "attack"]
        assert len(set(attacks)) == len(attacks) == 3 * 10
        assert len({row["code"] for row in mine if row["kind"] == "audit"}) == len(parts.names("audits"))
    panels = cell.summary["results"]["panels"]
    assert [(panel["eps_text"], panel["tier"]) for panel in panels] == [("1/20", "smoke"), ("0.1", "smoke")]
    for found in panels:
        mine = [row for row in rows if row["kind"] == "audit" and row["eps_text"] == found["eps_text"]]
        assert found["red"] == [row["code"] for row in mine if row["colour"] == "red"]
        assert found["verdict"] == verdict_of(mine).word


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_panel_that_was_stopped_goes_on_with_the_piece_it_was_at(
    counted_panel: tuple[Path, Cell, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    undisturbed, _, pieces = counted_panel
    real, calls, last = panel.outcomes, 0, max(int(share * pieces), 1)

    def counted(*given: Any) -> list[dict[str, Any]]:
        nonlocal calls
        calls += 1
        if calls == last:
            raise KeyboardInterrupt
        return real(*given)

    config, store = cell_from(panelled(model=tinycell.SMALLEST)), Store(tmp_path)
    shutil.copytree(undisturbed / "models", tmp_path / "models")  # trained once
    monkeypatch.setattr(panel, "outcomes", counted)
    with pytest.raises(KeyboardInterrupt):
        run_cell(config, store, QUIET)
    (part,) = tmp_path.glob("cells/*.partial/attack-panel.part")
    with open(part, "ab") as file:
        file.write(b'[{"kind":"audit","co')  # and a line that a kill tore
    run_cell(config, store, QUIET)
    assert numbers(tmp_path) == numbers(undisturbed)
    assert calls == pieces + 1, "one piece was begun twice, and no other"


def test_a_full_disk_is_an_error_that_says_so_and_the_run_goes_on_afterwards(
    whole: tuple[Path, Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, store = cell_from(smallest()), Store(tmp_path)
    real, room = os.fsync, 0

    def full(file: int) -> None:
        nonlocal room
        room -= 1
        if room < 0:
            raise OSError(28, "No space left on device")
        real(file)

    monkeypatch.setattr(os, "fsync", full)
    for files in range(1, 20, 3):  # more of them fit every time
        room = files
        with pytest.raises(SpikeproofError, match="free some space and start again"):
            run_cell(config, store, QUIET)
        assert not list(tmp_path.rglob("*.tmp"))
        if list(tmp_path.glob("models/*/model.safetensors")):
            break
    room = 3
    with pytest.raises(SpikeproofError, match="free some space and start again"):
        run_cell(config, store, QUIET)
    room = 1000
    run_cell(config, store, QUIET)
    assert numbers(tmp_path) == numbers(whole[0])


# --- killed and crowded ---


def study_file(folder: Path) -> tuple[Path, list[CellConfig]]:
    study = {
        "title": "two",
        "base": watched(),
        "axes": {"pool": {"max": {}, "avg": {"model.pool": "avg"}}},
    }
    path = folder / "two.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    return path, Study(**study).cells()


def test_a_study_killed_at_any_moment_goes_on_to_the_same_bytes(tmp_path: Path, trace: Path) -> None:
    path, cells = study_file(tmp_path)
    list(Here().run(cells, Store(tmp_path / "whole"), QUIET))
    done = len(tinycell.events(trace))
    chance = random.Random(7)
    environment = tinycell.process_environment(trace)
    words = ("study", path, "--workers", 1, "--out", tmp_path / "killed")
    for moment in sorted(chance.sample(range(1, 2 * (STEPS + ATTACKS)), 3)):
        process = warm.start(warm.command, *words, environment=environment)
        end = time.monotonic() + 60
        while process.is_alive() and len(tinycell.events(trace)) < done + moment and time.monotonic() < end:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.05))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "it was to be killed in the middle of its work"
    last = tinycell.run(tinycell.command(*words), environment)  # as a shell starts it
    assert last.returncode == 0, last.stderr
    assert numbers(tmp_path / "killed") == numbers(tmp_path / "whole")
    assert len(numbers(tmp_path / "killed")) == 6
    assert not list((tmp_path / "killed").rglob("*.tmp")) + list((tmp_path / "killed").rglob("*.partial"))
    assert (tmp_path / "killed" / "report.html").is_file()


def test_a_cell_killed_at_any_operation_on_the_disk_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    done = warm.run(crashes.main, tmp_path, 3, environment=tinycell.process_environment(tmp_path / "trace"))
    assert done.returncode == 0, done.stderr
    assert " of " in done.stdout


def test_two_processes_on_the_same_study_do_each_cell_once(tmp_path: Path, trace: Path) -> None:
    path, cells = study_file(tmp_path)
    words = ("study", path, "--workers", 1, "--out", tmp_path / "shared")
    environment, said = tinycell.process_environment(trace), tmp_path / "said"
    both = [warm.start(warm.command, *words, environment=environment, err=said) for _ in range(2)]
    for process in both:
        process.join(warm.PATIENCE)
    assert [process.exitcode for process in both] == [0, 0], said.read_text(encoding="utf-8")
    shared = tinycell.events(trace)
    list(Here().run(cells, Store(tmp_path / "alone"), QUIET))
    assert sorted(tinycell.events(trace)[len(shared) :]) == sorted(shared)
    assert shared.count("step") == 2 * STEPS
    assert numbers(tmp_path / "shared") == numbers(tmp_path / "alone")
    assert len(numbers(tmp_path / "shared")) == 6
