"""The command line: exit codes, messages that say what is valid, and options that reach the configuration."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tinycell
import torch
import warm
import yaml
from jsonargparse import ArgumentParser
from pages import without_drawing
from tinycell import smallest, tiny
from tinypanel import panelled

import spikeproof
from spikeproof import parts, report
from spikeproof.commands import main, train
from spikeproof.metrics import panels
from spikeproof.metrics.verdict import Verdict
from spikeproof.store.store import Store
from spikeproof.study.config import cell_from, cell_of
from spikeproof.study.controls import Outcome
from spikeproof.training.checkpoint import read_tensors

PACKAGE = Path(spikeproof.__file__).parent
VERBS = (
    "demo", "train", "evaluate", "study", "plan", "status", "reproduce", "pack", "report", "parts", "transfer",
    "controls", "findings", "check", "inspect", "cite",
)  # fmt: skip

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Exit code, standard output and standard error of the command line."""

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def cell_file(tmp_path: Path) -> Path:
    path = tmp_path / "cell.yaml"
    path.write_text(yaml.safe_dump(tiny(name="mine")), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `evaluate` makes of the tiny cell of the smallest network; not to be changed."""
    root = tmp_path_factory.mktemp("results")
    (root / "cell.yaml").write_text(yaml.safe_dump(smallest(name="mine")), encoding="utf-8")
    with without_drawing():
        assert main(["evaluate", "--config", str(root / "cell.yaml"), "--out", str(root / "runs"), "--quiet"]) == 0
    return root / "runs"


# --- help and listings ---


def test_help_names_every_verb(command: Command) -> None:
    code, out, _ = command("--help")
    assert code == 0
    assert all(re.search(rf"^    {verb} ", out, re.MULTILINE) for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(command: Command, verb: str) -> None:
    code, out, err = command(verb, "--help")
    assert (code, err) == (0, "")
    assert f"spikeproof [options] {verb}" in out


def test_the_version(command: Command) -> None:
    code, out, _ = command("--version")
    assert code == 0
    assert out.split() == ["spikeproof", spikeproof.__version__]


def test_parts_lists_every_file_of_every_folder(command: Command) -> None:
    code, out, err = command("parts")
    assert (code, err) == (0, "")
    for folder in parts.FOLDERS:
        section = out.partition(f"{folder}:\n")[2]
        names = (
            [path.stem.rstrip("_") for path in (PACKAGE / folder).glob("*.py") if not path.stem.startswith("_")]
            if (PACKAGE / folder).is_dir()
            else parts.names(folder)
        )
        assert names
        assert all(re.search(rf"^  {re.escape(name)}\(", section, re.MULTILINE) for name in names)


def test_parts_lists_one_folder_with_its_options(command: Command) -> None:
    code, out, _ = command("parts", "attacks")
    assert code == 0
    assert "pgd(steps=20, " in out
    assert "neurons:" not in out


# --- wrong usage: 2, and what would be right ---


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "verb"),
        (("dance",), "demo.*evaluate.*findings.*parts.*report.*study.*train"),
        (("train", "--wat=1"), "--wat"),
        (("train", "--recipe.wat=1"), "--recipe.wat"),
        (("train", "--model.wat=1"), "'wat'; valid: connect='ADD', pool='max', width=16"),
        (("train", "--model.name=nowhere"), "'nowhere'; valid: .*sew_resnet.*package.module:Name"),
        (("train", "--defence.name=nowhere:Thing"), "nowhere:Thing"),
        (("train", "--model.pool=mean"), "mean.*max.*avg|max.*avg.*mean"),
        (("train", "--recipe.epochs=many"), "recipe.epochs"),
        (("train", "--recipe.lr=-1"), "lr > 0"),
        (("train", "--recipe.optimiser=adamw"), "adam.*sgd"),
        (("train", "--steps=0"), "steps >= 1"),
        (("train", "--training_threat.eps=8/0"), "eps as a number >= 0.*8/255.*'8/0'"),
        (("evaluate", "--evaluations=[{eps: [lots]}]"), "eps as a number >= 0.*8/255.*'lots'"),
        (("evaluate", "--evaluations=[{eps: [-0.1]}]"), "eps as a number >= 0"),
        (("evaluate", "--evaluations=[{wat: 1}]"), "wat"),
        (("evaluate", "--config=nowhere.yaml"), "nowhere.yaml"),
        (("train", "--device=abacus"), "a device that torch has, got 'abacus'"),
        (("train", "--device=meta"), "a device that torch has, got 'meta'"),
        (("train", "--threads=0"), "threads in 1..1024"),
        (("train", "--threads=1000000000"), "threads in 1..1024"),
        (("study",), "file"),
        (("study", "nowhere.yaml"), "nowhere.yaml"),
        (("report",), "folder"),
        (("report", "nowhere"), "finished cells under nowhere.*run a study"),
        (("parts", "nowhere"), "'nowhere'; valid: neurons, rules"),
        (("evaluate", "--tier=thorough"), "thorough.*smoke.*quick.*standard.*audit"),
        (("evaluate", "--tier=smoke", "--eps=lots"), "eps as a number >= 0.*8/255.*'lots'"),
        (("evaluate", "--evaluations=[{tier: quick}]"), "a tier for protocol 'panel'"),
        (("controls", "--tier=thorough"), "thorough.*smoke.*quick.*standard.*audit"),
        (("controls", "--images=0"), "images >= 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_exits_2_and_says_what_is_right(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = command(*arguments)
    assert code == 2
    assert re.search(said, err, re.DOTALL), err
    assert out == ""
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("content", ["", "just text", "title: t\nbase: {}\nwat: 1\n", "title: t\nbase: {wat: 1}\n"])
def test_a_wrong_study_exits_2(command: Command, tmp_path: Path, content: str) -> None:
    (tmp_path / "mine.yaml").write_text(content, encoding="utf-8")
    code, _, err = command("study", tmp_path / "mine.yaml", "--out", tmp_path / "runs")
    assert code == 2
    assert "valid: " in err
    assert not (tmp_path / "runs").exists()


def test_a_folder_without_cells_exits_2(command: Command, tmp_path: Path) -> None:
    code, _, err = command("report", tmp_path)
    assert code == 2
    assert str(tmp_path) in err


# --- failures: 1 ---


def test_what_cannot_be_written_exits_1(command: Command, tmp_path: Path, cell_file: Path) -> None:
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    code, _, err = command("train", "--config", cell_file, "--out", tmp_path / "taken", "--quiet")
    assert code == 1
    assert "taken" in err


def test_a_command_that_has_nowhere_to_print_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)  # as Python has it where a shell says `>&-`
    assert main(["parts", "losses"]) == 0


def test_a_reader_that_has_enough_ends_a_listing_quietly() -> None:
    command = [sys.executable, "-m", "spikeproof", "parts"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == ""
    assert running.returncode == 141


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EACCES, "Permission denied; to mend: check the permissions"),
        (errno.EPERM, "permissions"),
        (errno.EROFS, "permissions"),
        (errno.ENOSPC, "No space left on device; to mend: free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EIO, "Input/output error; to mend: look at what is there"),
        (errno.ENOTDIR, "Not a directory; to mend: look at what is there"),
    ],
)
def test_an_error_of_the_disk_is_called_what_it_is_and_where(
    command: Command, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number), "/some/place")

    monkeypatch.setattr(parts, "describe", fail)
    code, _, err = command("parts")
    assert code == 1
    assert f"expected to use /some/place, got {os.strerror(number)}" in err
    assert said in err
    assert len(err.splitlines()) == 1


@pytest.mark.usefixtures("undrawn")
def test_a_report_that_cannot_be_written_leaves_nothing_hidden(command: Command, tmp_path: Path, results: Path) -> None:
    shutil.copytree(results, tmp_path / "runs")
    (tmp_path / "runs" / "report.html").unlink()
    (tmp_path / "runs" / "report.html").mkdir()
    code, _, err = command("report", tmp_path / "runs")
    assert code == 1
    assert "report.html" in err
    assert not [*(tmp_path / "runs").rglob(".*.tmp")]


def test_a_training_that_diverges_exits_1(command: Command, tmp_path: Path, cell_file: Path) -> None:
    code, _, err = command("train", "--config", cell_file, "--recipe.lr=1e10", "--out", tmp_path / "runs", "--quiet")
    assert code == 1
    assert "spikeproof: expected" in err
    assert "learning rate" in err or "recipe.lr" in err


def test_a_damaged_cell_exits_1(command: Command, tmp_path: Path, results: Path) -> None:
    shutil.copytree(results, tmp_path / "runs")
    (rows,) = (tmp_path / "runs").glob("cells/*/rows.jsonl")
    rows.write_bytes(rows.read_bytes()[:-20])
    code, _, err = command("report", tmp_path / "runs")
    assert code == 1
    assert rows.parent.name in err


def test_an_interrupted_run_exits_1_and_says_that_it_goes_on(
    command: Command, tmp_path: Path, cell_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("spikeproof.study.trained.train", stop)
    code, _, err = command("train", "--config", cell_file, "--out", tmp_path / "runs", "--quiet")
    assert code == 1
    assert "goes on from here" in err


# --- what reaches the configuration ---


def config_of(*arguments: object) -> dict[str, Any]:
    parser = ArgumentParser(exit_on_error=False)
    train.options(parser)
    return cell_of(parser.parse_args([str(argument) for argument in arguments])).resolved()


def test_a_dotted_option_keeps_the_part_s_other_options(cell_file: Path) -> None:
    model = config_of("--config", cell_file, "--model.pool=avg", "--recipe.epochs=1")
    assert model["model"] == {"name": "small_sew_resnet", "connect": "ADD", "pool": "avg", "width": 4}
    assert model["recipe"] == {**config_of("--config", cell_file)["recipe"], "epochs": 1}
    assert config_of("--model.pool=avg")["model"]["name"] == "small_sew_resnet"


def test_a_dotted_name_chooses_another_part() -> None:
    assert config_of("--model.name=sew_resnet")["model"] == parts.resolve("models", {"name": "sew_resnet"})
    assert config_of("--model.name=sew_resnet", "--model.depth=34")["model"]["depth"] == 34
    assert config_of("--rule.name=sigmoid")["rule"] == parts.resolve("rules", {"name": "sigmoid"})
    assert config_of("--defence.name=sr", "--defence.weight=0.5")["defence"]["weight"] == 0.5


def test_a_file_is_read_and_later_options_win(cell_file: Path) -> None:
    assert config_of("--config", cell_file)["name"] == "mine"
    assert config_of("--config", cell_file, "--name=yours")["name"] == "yours"
    assert config_of("--name=yours", "--config", cell_file)["name"] == "mine"
    assert config_of("--config", cell_file, "--training_threat.eps=1/255")["training_threat"]["eps"] == "1/255"
    assert config_of("--config", cell_file, "--model={name: sew_resnet, depth: 50}")["model"]["depth"] == 50
    given = config_of("--config", cell_file)
    assert [e["name"] for e in given["evaluations"]] == ["pixels", "paper"]
    assert given["evaluations"][0]["eps"] == ["0.1"]


@pytest.mark.parametrize("tree", [{"wat": 1}, {"recipe": {"wat": 1}}, {"evaluations": [{"wat": 1}]}])
def test_an_unknown_key_in_a_file_exits_2(command: Command, tmp_path: Path, tree: dict[str, Any]) -> None:
    (tmp_path / "cell.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    code, _, err = command("train", "--config", tmp_path / "cell.yaml", "--out", tmp_path / "runs")
    assert code == 2
    assert "wat" in err


def test_threads_are_torch_s(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    assert command("demo", "--threads=3", "--device=abacus")[0] == 2
    assert asked == [3]


# --- the verbs at work ---


def test_train_writes_weights_and_says_where(command: Command, tmp_path: Path, cell_file: Path) -> None:
    arguments = ("train", "--config", cell_file, "--recipe.epochs=1", "--out", tmp_path / "runs", "--quiet")
    code, out, err = command(*arguments)
    assert (code, err) == (0, "")
    path = Path(out.removeprefix("weights: ").strip())
    _, facts = read_tensors(path)
    assert [entry["epoch"] for entry in facts["history"]] == [1]
    assert path.is_relative_to(tmp_path / "runs" / "models")
    before = path.stat().st_mtime_ns
    assert command(*arguments) == (0, out, "")
    assert path.stat().st_mtime_ns == before


def test_evaluate_writes_a_cell_and_the_page(results: Path) -> None:
    (cell,) = Store(results).cells()
    assert cell.config["name"] == "mine"
    assert "mine" in (results / "report.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("undrawn")
def test_the_configuration_beside_the_results_is_the_cell_s(command: Command, tmp_path: Path, results: Path) -> None:
    shutil.copytree(results, tmp_path / "runs")
    (cell,) = Store(tmp_path / "runs").cells()
    rows = (cell.folder / "rows.jsonl").stat().st_mtime_ns
    code, out, _ = command("evaluate", "--config", cell.folder / "config.yaml", "--out", tmp_path / "runs", "--quiet")
    assert code == 0
    assert "# mine" in out
    assert Store(tmp_path / "runs").cells() == [cell]
    assert (cell.folder / "rows.jsonl").stat().st_mtime_ns == rows


def test_report_writes_the_page_again(command: Command, tmp_path: Path, results: Path) -> None:
    shutil.copytree(results, tmp_path / "runs", ignore=shutil.ignore_patterns("report.html", "figures"))
    code, out, err = command("report", tmp_path / "runs", "--title", "A title of mine")
    assert (code, err) == (0, "")
    assert out.strip() == f"report: {tmp_path / 'runs' / 'report.html'}"
    assert "A title of mine" in (tmp_path / "runs" / "report.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("undrawn")
def test_a_study_with_a_user_s_own_parts(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tinycell.TRACE, str(tmp_path / "trace"))
    attacks = {"attacks": {"mine": {"name": "tinycell:Fgsm"}}, "name": "pixels", "eps": ["1/10"], "batch_size": 10}
    parts_of_mine = {"encoder": {"name": "direct"}, "defence": {"name": "tinycell:Step"}}
    base = smallest(evaluations=[attacks], train_images=200, **parts_of_mine)
    study = {"title": "A study of mine", "base": base, "axes": {"pool": {"max": {}, "avg": {"model.pool": "avg"}}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    code, out, err = command("study", tmp_path / "mine.yaml", "--workers", 1, "--out", tmp_path / "runs", "--quiet")
    assert code == 0
    first, *rest = err.splitlines()
    assert first.startswith("this study can decide no claim of the trade-off: 1 of the 3 seeds")
    assert [line.split(" in ")[0] for line in rest] == ["[1/2] max: done", "[2/2] avg: done"]
    assert out.startswith("report: ")
    assert {"step", "attack"} == set(tinycell.events(tmp_path / "trace"))
    cells = {cell.config["name"]: cell for cell in Store(tmp_path / "runs").cells()}
    assert sorted(cells) == ["avg", "max"]
    assert {row["attack"] for row in cells["max"].rows() if row["kind"] == "attack"} == {"mine"}
    assert cells["avg"].config["model"]["pool"] == "avg"


# --- panels ---


def panel_file(folder: Path, **changes: Any) -> Path:
    """The configuration of a tiny cell, for a panel to be asked for on the command line."""
    path = folder / "cell.yaml"
    path.write_text(yaml.safe_dump({**panelled(**changes), "evaluations": [{"name": "other"}]}), encoding="utf-8")
    return path


@pytest.mark.usefixtures("undrawn")
def test_a_tier_replaces_the_evaluations_and_a_supported_verdict_exits_0(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that has learnt nothing would be unsettled: the verdict is put into its mouth."""
    monkeypatch.setattr(panels, "verdict_of", lambda rows: Verdict("supported", (), ("D21", "D22"), ()))
    path = panel_file(tmp_path, model=tinycell.SMALLEST)
    code, out, err = command("evaluate", "--config", path, "--tier=smoke", "--eps=1/10", "--quiet", "--out", tmp_path)
    assert (code, err) == (0, "")
    assert "report: " in out
    (cell,) = Store(tmp_path).cells()
    (evaluation,) = cell.config["evaluations"]
    assert (evaluation["protocol"], evaluation["tier"], evaluation["eps"]) == ("panel", "smoke", ["1/10"])
    assert cell.config["headline"] == {"evaluation": "panel", "eps": "1/10"}
    assert {row["evaluation"] for row in cell.rows() if row["kind"] == "attack"} == {"panel"}
    resolved = cell_from(cell.config).resolved()
    assert resolved == cell.config


@pytest.mark.usefixtures("undrawn")
def test_a_number_that_cannot_be_trusted_exits_3_and_says_why(command: Command, tmp_path: Path) -> None:
    path = panel_file(tmp_path, model={"name": "tinypanel:Forgetless", "width": 4})
    arguments = ("evaluate", "--config", path, "--tier=smoke", "--quiet", "--out", tmp_path / "runs")
    code, out, err = command(*arguments)
    assert code == 3
    assert re.search("^cell, panel at eps 8/255: not evaluated, red: .*D13", err)
    assert "report: " in out
    (cell,) = Store(tmp_path / "runs").cells()
    (panel,) = cell.summary["results"]["panels"]
    assert (panel["verdict"], panel["attacked"]) == ("not evaluated", False)
    assert command(*arguments)[0] == 3, "a finished cell is no more to be trusted than it was"


def test_a_panel_killed_midway_goes_on_to_the_same_bytes(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = panel_file(tmp_path, encoder={"name": "tinypanel:Traced"}, model=tinycell.SMALLEST)
    trace = tmp_path / "trace"
    monkeypatch.setenv(tinycell.TRACE, str(trace))
    monkeypatch.setattr(report, "write", lambda cells, folder, **_: folder)  # which takes longer than the rest
    arguments = ("evaluate", "--config", path, "--tier=smoke", "--eps=1/10", "--out")
    assert command(*arguments, tmp_path / "whole", "--quiet")[0] in (0, 3)
    total = len(tinycell.events(trace))
    trace.unlink()
    at = int(0.7 * total)
    environment = tinycell.process_environment(trace, kill_at=at)
    killed = warm.run(warm.command, *arguments, tmp_path / "killed", environment=environment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert list(tmp_path.glob("killed/cells/*.partial/attack-panel.part")), "it was to be killed in the panel"
    assert command(*arguments, tmp_path / "killed", "--quiet")[0] in (0, 3)
    assert tinycell.numbers(tmp_path / "killed") == tinycell.numbers(tmp_path / "whole")
    assert len(tinycell.numbers(tmp_path / "whole")) == 3
    assert len(tinycell.events(trace)) < at + total, "what was done is not done again"


# --- controls ---


@pytest.mark.parametrize(("masked", "code", "word"), [(True, 0, "ok  "), (False, 1, "FAIL")])
def test_controls_exit_1_where_one_is_not_what_it_is_said_to_be(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, masked: bool, code: int, word: str
) -> None:
    def outcomes(store: Store, machine: Any, *, tier: str, images: int, smallest: bool) -> list[Outcome]:
        assert (store.root, tier, images, smallest) == (tmp_path, "smoke", 5, True)
        power = "16 of 16 planted examples found"
        return [
            Outcome("fine", False, False, "supported", 1.0, power=power),
            Outcome("odd", masked, True, "unsettled (red: D5)"),
        ]

    monkeypatch.setattr("spikeproof.study.controls.run_controls", outcomes)
    given = ("controls", "--tier=smoke", "--images=5", "--smallest", "--out", tmp_path, "--quiet")
    got, out, err = command(*given)
    assert (got, err) == (code, "")
    lines = out.splitlines()
    assert re.match(r"ok   honest: fine +supported; 100\.0 % fell", lines[0])
    assert lines[1] == "     power: 16 of 16 planted examples found"
    assert re.match(rf"{word} {'masked' if masked else 'honest'}: odd +unsettled \(red: D5\)$", lines[2])
    assert lines[3] == f"controls: {code} failed"
