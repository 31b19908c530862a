"""Data are not code: what stored data name is not imported, unless the user says so; nor is a text that is no name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import warm
import yaml
from tinycell import smallest

from spikeproof import parts
from spikeproof.commands import main
from spikeproof.encoders.phase import Phase
from spikeproof.errors import UsageError
from spikeproof.files import digest
from spikeproof.store.packed import pack
from spikeproof.store.store import Cell, Store
from spikeproof.store.summary import sealed
from spikeproof.study.config import cell_from, stored_config
from spikeproof.study.finished import trained
from spikeproof.study.rerun import reproduce
from spikeproof.study.run import Machine, run_cell
from spikeproof.study.transfer import of_cells
from spikeproof.trust import Untrusted, stored

QUIET = Machine(progress=False)
CHEAP = {
    "evaluations": [{"name": "pixels", "eps": [0.1], "attacks": {"f": {"name": "fgsm"}}, "images": 2}],
    "gradients": {"images": 1, "weight_images": 1, "layers": False},
}
EVIL = "evilmod"
SPELLED = '{"cl\\u0061ss_path": "evilmod.Mine"}'
"""A class_path for whoever reads it as JSON or YAML."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Cell:
    """A tiny cell; not to be changed."""
    return run_cell(cell_from(smallest(**CHEAP)), Store(tmp_path_factory.mktemp("runs")), QUIET)


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """A module that could be imported, whose every name is a part; and whether it was."""
    (tmp_path / "modules").mkdir()
    text = "from spikeproof.encoders.phase import Phase as Mine\nfrom spikeproof.attacks.fgsm import FGSM as Fgsm\n"
    (tmp_path / "modules" / f"{EVIL}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.delitem(sys.modules, EVIL, raising=False)

    def ran() -> bool:
        return sys.modules.pop(EVIL, None) is not None

    return ran


def edited(cell: Cell, root: Path, change: Callable[[dict[str, Any]], None]) -> Cell:
    """A copy of the cell in a store of its own, with another configuration and sealed as whole."""
    shutil.copytree(cell.folder.parent.parent, root)
    copy = Cell(cell.key, root / "cells" / cell.key)
    config, summary = copy.config, json.loads((copy.folder / "summary.json").read_text(encoding="utf-8"))
    change(config)
    (copy.folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    summary["files"]["config.yaml"] = digest(copy.folder / "config.yaml")
    del summary["seal"]
    (copy.folder / "summary.json").write_bytes(sealed(summary))
    assert copy.damage() is None
    return copy


def an_encoder(config: dict[str, Any]) -> None:
    config["encoder"] = {"name": f"{EVIL}:Mine"}


def anywhere(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        *above, last = path
        node: Any = config
        for step in above:
            node = node[step]
        node[last] = value

    return change


PLACES = [
    *(anywhere(field, "name", value=f"{EVIL}:Mine") for field in (
        "data", "model", "neuron", "rule", "encoder", "defence", "training_attack", "training_threat")),
    anywhere("defence", value={"name": "noise", "base": {"name": f"{EVIL}:Mine"}}),
    *(anywhere("evaluations", 0, key, value=f"{EVIL}:Mine") for key in ("norm", "surface", "loss", "name", "protocol")),
    *(anywhere("evaluations", 0, key, "name", value=f"{EVIL}:Mine") for key in ("rule", "encoder", "estimator")),
    anywhere("evaluations", 0, "attacks", "f", "name", value=f"{EVIL}:Fgsm"),
    anywhere("evaluations", 0, "attacks", "f", "using", value={"encoder": {"name": f"{EVIL}:Mine"}}),
    anywhere("evaluations", 0, "attacks", "f", "using", value={"loss": f"{EVIL}:Mine"}),
    anywhere("generalisation", "corruptions", value=[f"{EVIL}:Mine"]),
    # What jsonargparse would make of data.
    anywhere("encoder", value={"class_path": f"{EVIL}.Mine"}),
    anywhere("evaluations", 0, "attacks", "f", "using", value={"class_path": f"{EVIL}.Mine"}),
    anywhere("evaluations", 0, "attacks", "f", "steps", value={"class_path": f"{EVIL}.Mine"}),
    anywhere("evaluations", 0, "attacks", value={"f": {"class_path": f"{EVIL}.Mine", "init_args": {}}}),
    anywhere("evaluations", 0, "attacks", "f", "using", value=SPELLED),
    anywhere("evaluations", 0, "rule", "name", value=SPELLED),
    anywhere("evaluations", 0, "rule", value=f"name: {{class_path: {EVIL}.Mine}}"),
    anywhere("recipe", value={"class_path": f"{EVIL}.Mine"}),
    anywhere("recipe", "lr", value=SPELLED),
    anywhere("gradients", "scalars", value=[{"class_path": f"{EVIL}.Mine"}]),
]  # fmt: skip


@pytest.mark.parametrize("change", PLACES)
def test_no_place_of_a_stored_configuration_has_code_imported(
    change: Callable[[dict[str, Any]], None], finished: Cell, evil: Callable[[], bool]
) -> None:
    config = finished.config
    change(config)
    with stored("somewhere"), pytest.raises(UsageError):
        cell_from(config)
    assert not evil()


@pytest.mark.parametrize("verb", ["reproduce", "transfer", "trained"])
def test_a_stored_cell_runs_no_code_of_others(
    verb: str, finished: Cell, tmp_path: Path, evil: Callable[[], bool], capsys: pytest.CaptureFixture[str]
) -> None:
    cell = edited(finished, tmp_path / "runs", an_encoder)
    runs, into = str(tmp_path / "runs"), tmp_path / "again"
    by_hand: dict[str, Callable[[], object]] = {
        "reproduce": lambda: reproduce(cell, Store(into), QUIET, anyway=True),
        "transfer": lambda: of_cells([cell], "0.1", 2, QUIET),
        "trained": lambda: trained(cell.folder),
    }
    with pytest.raises(UsageError) as refused:
        by_hand[verb]()
    for text in (f"'{EVIL}:Mine'", str(cell.folder), "--trust", "trust=True"):
        assert text in str(refused.value)
    assert refused.value.path == ("encoder", "name")
    by_command = {"reproduce": ["reproduce", cell.key, "--out", runs, "--quiet"], "transfer": ["transfer", runs]}
    if verb in by_command:
        assert main(by_command[verb]) == 2
        assert f"'{EVIL}:Mine'" in capsys.readouterr().err
    assert not evil()
    assert not into.exists()


def test_a_user_who_trusts_a_cell_has_its_code_run(finished: Cell, tmp_path: Path, evil: Callable[[], bool]) -> None:
    cell = edited(finished, tmp_path / "runs", an_encoder)
    assert isinstance(trained(cell.folder, trust=True).encoder, Phase)
    assert evil()
    assert stored_config(cell, trust=True).encoder["name"] == f"{EVIL}:Mine"
    assert main(["transfer", str(tmp_path / "runs"), "--images", "4", "--eps", "0.1", "--trust", "--quiet"]) in (0, 2)
    assert evil()


@pytest.mark.usefixtures("evil")
def test_what_a_user_named_before_is_not_trusted_in_stored_data(finished: Cell) -> None:
    """Answers are kept, and the module is there: a stored configuration is asked for again all the same."""
    config = finished.config
    an_encoder(config)
    cell_from(config)
    with stored("somewhere"), pytest.raises(Untrusted, match="in somewhere"):
        cell_from(config)
    cell_from(config)


@pytest.mark.parametrize("verb", ["report", "pack", "status", "study"])
@pytest.mark.usefixtures("undrawn")
def test_what_only_reads_cells_imports_nothing(
    verb: str, finished: Cell, tmp_path: Path, evil: Callable[[], bool]
) -> None:
    """The report asks an encoder for its knob; of one that is not spikeproof's it has none."""
    cell = edited(finished, tmp_path / "runs", an_encoder)
    runs = str(tmp_path / "runs")
    study = tmp_path / "mine.yaml"
    study.write_text(yaml.safe_dump({"title": "t", "base": smallest(**CHEAP)}), encoding="utf-8")
    if verb == "report":
        pack([cell], tmp_path / "packed")
        assert main(["report", str(tmp_path / "packed")]) == 0
    command = {
        "report": ["report", runs], "pack": ["pack", runs, str(tmp_path / "small")],
        "status": ["status", str(study), "--out", runs],
        "study": ["study", str(study), "--out", runs, "--workers", "1", "--quiet"],
    }[verb]  # fmt: skip
    assert main(command) in (0, 2)
    assert not evil()
    with pytest.raises(UsageError):
        parts.knob("encoders", f"{EVIL}:Mine")
    assert not evil()


# --- a text that is no name of a part ---


@pytest.mark.parametrize(
    "study",
    [
        {"axes": {"a": {f"{EVIL}:Mine": {"seed": 1}, f"{EVIL}.Mine": None}}},
        {"axes": {f"{EVIL}:Mine": {"x": {"seed": 1}}}},
        {"title": f"{EVIL}:Mine"},
        {"base": {"name": f"{EVIL}:Mine"}},
        {"axes": {"a": {"x": {"evaluations": [{"attacks": {f"{EVIL}:Fgsm": {"name": "fgsm"}}}]}}}},
    ],
    ids=["value", "axis", "title", "cell", "attack"],
)
def test_names_of_a_users_own_are_no_modules(
    study: dict[str, Any], tmp_path: Path, evil: Callable[[], bool], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    whole = {"title": "t", **study, "base": {**smallest(**CHEAP), **study.get("base", {})}}
    file.write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
    assert main(["status", str(file), "--out", str(tmp_path / "runs")]) == 0, capsys.readouterr().err
    assert not evil()


@pytest.mark.parametrize(
    "study",
    [
        {"base": {"data": {"class_path": f"{EVIL}.Mine"}}},
        {"base": {"data": {"name": "digits", "x": [{"class_path": f"{EVIL}.Mine"}]}}},
        {"base": {"name": SPELLED}},
        {"axes": {"a": {"b": {"name": {"class_path": f"{EVIL}.Mine"}}}}},
        {"axes": {"a": {"b": {"name": SPELLED}}}},
        {"axes": {"a": {"b": f"x: {{class_path: {EVIL}.Mine}}"}}},
        {"axes": SPELLED},
    ],
)
def test_a_study_names_parts_and_no_classes(
    study: dict[str, Any], tmp_path: Path, evil: Callable[[], bool], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"title": "t", "base": {}, **study}), encoding="utf-8")
    assert main(["status", str(file), "--out", str(tmp_path / "runs")]) == 2
    assert "class_path" in capsys.readouterr().err.replace("cl\\\\u0061ss_path", "class_path")
    assert not evil()


@pytest.mark.parametrize("folder", [folder for folder in parts.FOLDERS if folder != "losses"])
def test_no_option_of_a_part_takes_a_class(folder: str, evil: Callable[[], bool]) -> None:
    """Or jsonargparse would import the one that a stored configuration names."""
    values = ({"class_path": f"{EVIL}.Mine"}, [{"class_path": f"{EVIL}.Mine"}], SPELLED, f"{EVIL}.Mine")
    for name in parts.names(folder):
        for option in signature(parts.find(folder, name)).parameters:
            for value in values:
                with stored("somewhere"), suppress(UsageError):  # a text may do for a text
                    parts.resolve(folder, {"name": name, option: value})
    assert not evil()


def test_a_folder_of_others_is_no_place_for_packages(tmp_path: Path) -> None:
    """Where a command is run, a file with the name of a package never stands in for it."""
    trace = tmp_path / "trace"
    for name in ("torch", "yaml", "filelock", "matplotlib", "triton", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(f"open({str(trace)!r}, 'w').close()\nraise ImportError\n", "utf-8")
    code = "from spikeproof.commands import main; main(['report', '.'])"
    source = str(Path(parts.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "PYTHONSAFEPATH": "1"}
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert "expected finished cells" in told.stderr
    assert not trace.exists()


def test_workers_take_no_package_from_the_folder_they_run_in(tmp_path: Path) -> None:
    """Nor does the server that they are forked from, which imports everything, and is started afresh in that folder."""
    trace = tmp_path / "trace"
    for name in ("multiprocessing", "torch", "signal", "yaml", "spikeproof", "triton"):
        (tmp_path / f"{name}.py").write_text(f"open({str(trace)!r}, 'a').write(__name__)\nraise ImportError\n", "utf-8")
    code = (
        f"import os; os.chdir({str(tmp_path)!r}); from spikeproof.study import workers;"
        "one = workers._context().Process(target=print, args=('ran',)); one.start(); one.join()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    environment["PYTHONPATH"] = str(Path(parts.__file__).parents[1])
    told = warm.run(exec, code, environment=environment)
    assert told.stdout == "ran\n", told.stderr
    assert not trace.exists(), trace.read_text("utf-8")
