"""A network of somebody's own as a cell: its numbers, its key, what is refused of it, and all that a cell can do."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import ownkills
import pytest
import tinycell
import torch
import warm
import yaml
from ownnets import MODULE, means, written
from pages import without_drawing
from PIL import Image
from safetensors.torch import load_file, save_file

import spikeproof
from spikeproof import report
from spikeproof.commands import main
from spikeproof.data.digits import Digits
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.interop.wrap import Wrapped
from spikeproof.store import keys
from spikeproof.store.sources import Sources, package
from spikeproof.store.store import Cell, Store
from spikeproof.study.config import CellConfig, cell_from
from spikeproof.study.own import own_network
from spikeproof.study.run import Machine, key_of_cell, run_cell

DATA = {"train": "a", "test": "b"}
QUIET = Machine(progress=False)
FEW = [{"name": "pixels", "eps": [0.1], "attacks": {"f": {"name": "fgsm"}}, "images": 6}]
PANEL = ("--tier", "smoke", "--count", "6", "--eps", "0.1", "--quiet", "--threads", "1")


def forget() -> None:
    for name in (MODULE, "helpers_of_somebody"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where a user's modules lie, and can be imported from; not to be changed."""
    folder = written(tmp_path_factory.mktemp("home"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        forget()
        yield folder
    forget()


@pytest.fixture(scope="module")
def finished(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Cell:
    """What `evaluate` makes of the nearest mean on the digits; not to be changed."""
    runs = tmp_path_factory.mktemp("finished") / "runs"
    of_mine = [f"{MODULE}:make", "--weights", str(home / "means.pt"), "--images", "digits"]
    with without_drawing():
        code = main(["evaluate", *of_mine, "--out", str(runs), *PANEL])
    assert code == 3, "six images support no number"
    (cell,) = Store(runs).cells()
    return cell


def tree(home: Path, **changes: Any) -> dict[str, Any]:
    network = {"make": f"{MODULE}:make", **changes.pop("network", {})}
    whole = {"data": {"name": "digits"}, "network": network, "weights": str(home / "means.pt"), "evaluations": FEW}
    return {**whole, "test_images": 20, "gradients": {"images": 2}, **changes}


# --- what it says ---


def test_its_rows_are_those_of_the_owner_s_own_object(finished: Cell) -> None:
    """The nearest mean worked out by distances, without the network."""
    x, y, ids = Digits().load("test").at(torch.arange(359))
    mu = (means()["linear.weight"] / 2).double()
    nearest = (x.flatten(1).double()[:, None] - mu).square().sum(2).argmin(1)
    rows = [row for row in finished.rows() if row["kind"] == "clean"]
    assert {row["split"] for row in rows} == {"test"}, "no training images are looked at"
    found = {row["image"]: row["predicted"] for row in rows}
    assert found == dict(zip(ids.tolist(), nearest.tolist(), strict=True))
    assert 0.8 < float((nearest == y).double().mean()) < 1.0
    attacked = {row["image"] for row in finished.rows() if row["kind"] == "attack"}
    assert len(attacked) == 6
    assert all(row["site"] in ("image", "encoded") for row in finished.gradients())


def test_its_folder_says_whose_it_is(finished: Cell) -> None:
    config, network = finished.config, finished.provenance["network"]
    assert config["network"] == {"make": f"{MODULE}:make", "step_mode": None, "readout": None, "tolerance": 1e-6}
    assert not {"model", "neuron", "defence", "recipe", "training_threat"} & config.keys()
    assert (config["rule"], config["steps"]) == (None, None)
    card = (finished.folder / "README.md").read_text(encoding="utf-8")
    for said in (
        f"`{MODULE}:make` makes a Nearest",
        "means.pt",
        network["weights"],
        "makes its own time",
        "its own grad",
    ):
        assert said in card
    page = (finished.folder.parents[1] / "report.html").read_text(encoding="utf-8")
    assert f"{MODULE}:make" in page
    assert "small_sew_resnet" not in page + card
    kept = load_file(finished.folder / "model.safetensors")
    assert all(torch.equal(kept[name], tensor) for name, tensor in means().items())


# --- its key ---


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch, home: Path) -> Callable[..., str]:
    """Of a cell like the usual one, with the sources read anew."""

    def look(folder: Path = home, data: Any = DATA, **changes: Any) -> str:
        sources = Sources(package().root)
        sources.texts = package().texts
        sources._imports = {file: found for file, found in package()._imports.items() if file in sources.texts}
        monkeypatch.setattr(keys, "package", lambda: sources)
        config = cell_from(tree(folder, **changes))
        return key_of_cell(config, data, "cpu", own_network(config))

    return look


def test_what_decides_its_numbers_is_in_its_key(key: Callable[..., str], home: Path, tmp_path: Path) -> None:
    torch.save({**means(), "linear.bias": means()["linear.bias"] + 1e-6}, tmp_path / "other.pt")
    found = [
        key(), key(data={**DATA, "test": "c"}), key(weights=str(tmp_path / "other.pt")), key(weights=None), key(seed=1),
        key(network={"make": f"{MODULE}:two_steps"}), key(network={"tolerance": 1e-5}),
        key(network={"readout": f"{MODULE}:first"}), key(steps=2, network={"step_mode": "s"}), key(steps=2),
        key(steps=3, network={"step_mode": "s"}), key(steps=2, encoder={"name": "poisson"}),
        key(rule={"name": "sigmoid"}), key(evaluations=[{**FEW[0], "eps": [0.2]}]),
        key(evaluations=[{"name": "pixels", "protocol": "panel", "tier": "smoke"}]),
    ]  # fmt: skip
    assert len({*found}) == len(found)


def test_where_its_weights_come_from_is_not(key: Callable[..., str], tmp_path: Path) -> None:
    save_file(means(), tmp_path / "the same.safetensors")
    torch.save({"epoch": 3, "state_dict": {f"module.{n}": t for n, t in means().items()}}, tmp_path / "parallel.pt")
    assert len({key(), *(key(weights=str(tmp_path / name)) for name in ("the same.safetensors", "parallel.pt"))}) == 1


@pytest.mark.parametrize("name", [f"{MODULE}.py", "helpers_of_somebody.py"])
def test_the_sources_that_make_it_are_in_its_key(
    key: Callable[..., str], home: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its module's, and of the modules it imports."""
    before, text = key(), (home / name).read_text(encoding="utf-8")
    try:
        (home / name).write_text(f"{text}\n# another\n", encoding="utf-8")
        assert key() != before
    finally:
        (home / name).write_text(text, encoding="utf-8")
    assert key() == before
    wrapping = {**package().texts, "interop/_foreign.py": package().texts["interop/_foreign.py"] + b"\n#\n"}
    monkeypatch.setattr(package(), "texts", wrapping)
    assert key() != before


def test_a_budget_of_the_whole_box_is_refused(home: Path) -> None:
    whole = cell_from(tree(home, evaluations=[{**FEW[0], "eps": ["8/255", "8"]}]))
    with pytest.raises(UsageError, match=r"eps below 1 in Linf.*got 8.*: every image"):
        own_network(whole)


def test_what_its_function_draws_is_the_seed_s(home: Path) -> None:
    def drawn(seed: int) -> str:
        config = cell_from(tree(home, network={"make": f"{MODULE}:drawn"}, weights=None, seed=seed))
        return own_network(config).digest()

    assert drawn(0) == drawn(0) != drawn(1)


# --- what is refused, before anything is written ---


def images(folder: Path, classes: int, size: int = 8) -> Path:
    for label in range(classes):
        (folder / "test" / str(label)).mkdir(parents=True)
        for number in range(2):
            pixels = np.random.default_rng(10 * label + number).integers(0, 256, (size, size), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "test" / str(label) / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    for name, classes, size in (("fit", 10, 8), ("three", 3, 8), ("large", 10, 16)):
        images(root / name, classes, size)
    (root / "empty" / "test").mkdir(parents=True)
    torch.save({"else": torch.zeros(3)}, root / "unfit.pt")
    return root


FIT = ("--channels", "1", "--images", "fit")
REFUSED: dict[tuple[str, ...], tuple[str, ...]] = {
    ("no_such_module_of_mine:make", *FIT): ("importable", "No module named", "run from the folder"),
    (f"{MODULE}:mak", *FIT): ("'mak'", "valid: ", "did you mean make?"),
    (MODULE, *FIT): ("package.module:factory",),
    (f"{MODULE}:number", *FIT): ("a function or class",),
    (f"{MODULE}:needs", *FIT): ("missing a required argument: 'width'", "without arguments that returns the network"),
    (f"{MODULE}:fails", *FIT): ("KeyError", f"{MODULE}.py, line"),
    (f"{MODULE}:make", *FIT, "--weights", "nowhere.pt"): ("weights at nowhere.pt", "no such file"),
    (f"{MODULE}:make", *FIT, "--weights", "unfit.pt"): ("else is not in the model",),
    (f"{MODULE}:make", *FIT, "--readout", f"{MODULE}:frst"): ("'frst'", "did you mean first?"),
    (f"{MODULE}:make",): ("images to attack your network on", "--images FOLDER"),
    (f"{MODULE}:make", "--images", "nowhere"): ("a folder", "put the images at"),
    (f"{MODULE}:make", "--images", "empty"): ("class folders in",),
    (f"{MODULE}:make", "--channels", "1", "--images", "large"): (", 1, 16, 16)", "not (1, 16, 16)"),
    (f"{MODULE}:make", "--images", "fit"): (", 3, 8, 8)", "not (3, 8, 8)"),
    (f"{MODULE}:make", "--channels", "1", "--images", "three"): ("the 10 outputs", "3 classes", "one class folder"),
    (f"{MODULE}:three", *FIT): ("the 3 outputs", "10 classes"),
    (f"{MODULE}:make", *FIT, "--encoder.name", "poisson"): ("steps for the encoder",),
    (f"{MODULE}:make", *FIT, "--model.width", "4"): ("no 'model' beside a network of one's own",),
    ("--step_mode", "s", "--images", "digits"): ("name it: my_network:make",),
}


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("arguments", REFUSED)
def test_what_is_wrong_is_said_in_a_sentence(
    arguments: tuple[str, ...], folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(folders)
    assert main(["evaluate", *arguments, "--out", str(tmp_path / "runs"), *PANEL]) in (1, 2)
    said = capsys.readouterr().err
    assert said.startswith("spikeproof: expected ")
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) <= 2
    assert not list((tmp_path / "runs").glob("cells/*"))
    for word in REFUSED[arguments]:
        assert word in said


def test_a_configuration_is_held_against_itself(home: Path) -> None:
    for changes in ({}, {"steps": 2, "network": {"step_mode": "s"}}, {"rule": {"name": "sigmoid"}}):
        resolved = cell_from(tree(home, **changes)).resolved()
        assert cell_from(yaml.safe_load(yaml.safe_dump(resolved))).resolved() == resolved
    for changes, path in (
        ({"neuron": {"name": "lif"}}, ("neuron",)), ({"network": {"tolerance": -1.0}}, ("network", "tolerance")),
        ({"network": {"wat": 1}}, ()), ({"encoder": {"name": "poisson"}}, ("encoder",)),
    ):  # fmt: skip
        with pytest.raises(UsageError) as error:
            cell_from(tree(home, **changes))
        assert error.value.path[: len(path)] == path
    for missing in ("rule", "steps"):
        with pytest.raises(UsageError, match=f"{missing} of a network that is trained here"):
            cell_from({missing: None})


# --- all that a cell can do ---


def test_a_run_that_is_killed_again_and_again_ends_with_the_rows_of_one_that_is_not(tmp_path: Path) -> None:
    done = warm.run(ownkills.main, tmp_path, environment=tinycell.process_environment(tmp_path / "trace"))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[1]) in range(3, 10), "too few kills met a run at work"


def test_code_that_a_stored_cell_names_is_run_for_who_trusts_it(
    finished: Cell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = str(finished.folder.parents[1])
    forget()
    again = ["reproduce", finished.key, "--out", runs, "--into", str(tmp_path / "again"), "--quiet"]
    moved = ["transfer", str(finished.folder), "--images", "20", "--eps", "0.1", "--quiet"]
    for command in (again, moved):
        assert main(command) == 2
        assert "--trust" in capsys.readouterr().err
    with pytest.raises(UsageError, match="trust=True"):
        spikeproof.trained(finished.folder)
    assert MODULE not in sys.modules
    assert main([*again, "--trust"]) == 0
    assert "equal, row for row" in capsys.readouterr().out
    assert main([*moved, "--trust"]) == 0
    assert f"{MODULE}:make" in capsys.readouterr().out
    victim = spikeproof.trained(finished.folder, trust=True)
    assert isinstance(victim, Wrapped)
    assert torch.equal(victim.body.network.get_parameter("linear.bias"), means()["linear.bias"])


@pytest.mark.usefixtures("home")
def test_a_network_that_guesses_is_doubted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "write", lambda cells, folder, **_: folder)
    few = ["--test_images", "20", "--gradients.images", "2", "--out", str(tmp_path)]
    assert main(["evaluate", f"{MODULE}:drawn", "--images", "digits", *few, *PANEL]) == 3
    assert "is not above chance; look at the weights" in capsys.readouterr().err


def test_its_card_says_how_to_examine_it_again(finished: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same cell, found finished: in whatever file the weights come."""
    monkeypatch.setattr(report, "write", lambda cells, folder, **_: folder)
    (said,) = re.findall(r"`spikeproof (evaluate .*)`", (finished.folder / "README.md").read_text(encoding="utf-8"))
    monkeypatch.chdir(finished.folder)
    before = (finished.folder / "summary.json").stat().st_mtime_ns
    assert main([*said.split(), "--out", str(finished.folder.parents[1]), "--quiet", "--threads", "1"]) == 3
    assert [cell.key for cell in Store(finished.folder.parents[1]).cells()] == [finished.key]
    assert (finished.folder / "summary.json").stat().st_mtime_ns == before


def test_how_far_it_is_stands_in_its_folder(finished: Cell, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also of what another run is at, and of what one has left."""
    shutil.copytree(finished.folder, tmp_path / "cells" / finished.key)
    (tmp_path / "cells" / "beef.partial").mkdir()
    (tmp_path / "cells" / "beef.partial" / "attack-panel.part").write_text("one\ntwo\n", encoding="utf-8")
    (tmp_path / "cells" / "f00d.damaged-0").mkdir()
    forget()
    assert main(["status", "--out", str(tmp_path)]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert f"{MODULE}:make {finished.key} finished" in lines
    assert "- beef partial attack-panel, 2 batches" in lines
    assert "2 cells: 1 finished, 0 running, 1 partial, 0 missing, 0 damaged" in lines
    assert MODULE not in sys.modules
    assert main(["status", "--out", str(tmp_path / "nowhere")]) == 2


def test_two_of_one_name_are_told_apart(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blind = means()["linear.weight"].clone()
    blind[:, :32] = 0.0
    torch.save({**means(), "linear.weight": blind}, tmp_path / "blind.pt")
    folders = []
    for number, weights in enumerate((home / "means.pt", tmp_path / "blind.pt")):
        folders.append(tmp_path / str(number))
        run_cell(cell_from(tree(home, weights=str(weights))), Store(folders[-1]), QUIET)
    assert main(["transfer", *map(str, folders), "--images", "20", "--eps", "0.05", "--trust", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert all(f"{MODULE}:make {cell.key[:8]}" in out for folder in folders for cell in Store(folder).cells())


def test_a_study_may_be_of_networks_of_one_s_own(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "write", lambda cells, folder, **_: folder)  # which takes longer than the rest
    axes = {"which": {"mean": {}, "drawn": {"network.make": f"{MODULE}:drawn", "weights": None}}}
    study = tmp_path / "mine.yaml"
    study.write_text(yaml.safe_dump({"title": "mine", "base": tree(home), "axes": axes}), encoding="utf-8")
    asked = ["status", str(study), "--out", str(tmp_path / "runs")]
    assert main(asked) == 0
    assert "0 finished, 0 running, 0 partial, 2 missing" in capsys.readouterr().out
    assert main(["study", str(study), "--out", str(tmp_path / "runs"), "--workers", "1", "--quiet"]) == 0
    capsys.readouterr()
    assert main(asked) == 0
    assert "2 finished" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "runs")]) == 0
    with pytest.raises(SpikeproofError, match="built and trained here"):
        spikeproof.study.trained.trained_victim(cell_from(tree(home)), Store(tmp_path), QUIET)


def test_one_that_can_only_be_asked_is_asked(home: Path, tmp_path: Path) -> None:
    panel = {"name": "panel", "protocol": "panel", "tier": "smoke", "eps": [0.1], "images": 6}
    config = cell_from(tree(home, network={"make": f"{MODULE}:ask"}, weights=None, evaluations=[panel]))
    cell = run_cell(config, Store(tmp_path), QUIET)
    assert cell.gradients() == []
    assert cell.summary["results"]["panels"][0]["verdict"] == "unsettled"
    assert "can only be asked" in (cell.folder / "README.md").read_text(encoding="utf-8")
    assert isinstance(spikeproof.trained(cell.folder, trust=True), Wrapped)


def test_training_images_are_looked_at_where_they_are_asked_for(home: Path, tmp_path: Path) -> None:
    few = {"corruption_images": 2, "corruptions": ["jpeg"], "robust_images": 2}
    config = cell_from(tree(home, train_images=30, generalisation=few, theory={"images": 2, "draws": 3, "steps": 2}))
    cell = run_cell(config, Store(tmp_path), QUIET)
    clean = cell.summary["results"]["clean"]
    assert {split: found and found["total"] for split, found in clean.items()} == {
        "train": 30, "validation": None, "test": 20,
    }  # fmt: skip
    assert {row["kind"] for row in cell.rows()} >= {"clean", "attack", "robust", "corruption", "theory"}


def test_what_cannot_be_measured_of_it_is_refused_before_the_attacks(home: Path, tmp_path: Path) -> None:
    """One of its layers meets nothing, and has no gradient."""
    with pytest.raises(SpikeproofError, match=r"RuntimeError: .*; to mend: leave out .*gradients\.weight_images"):
        run_cell(cell_from(tree(home, gradients={"images": 2, "weight_images": 1})), Store(tmp_path), QUIET)
    assert not list(tmp_path.glob("cells/*/attack*"))


def test_steps_are_encoded_for_a_network_of_one_step_a_call(home: Path) -> None:
    """A network without a memory says at every step what it says of the image, so the mean over steps is that too."""
    config: CellConfig = cell_from(tree(home, steps=3, network={"step_mode": "s"}))
    test = Digits().load("test", 20)
    victim = own_network(config).victim(config, test, torch.device("cpu"))
    assert (victim.steps, victim.body.feed) == (3, "steps")
    x, _, _ = test.at(torch.arange(20))
    expected = x.flatten(1) @ means()["linear.weight"].T + means()["linear.bias"]
    torch.testing.assert_close(victim(x, spikeproof.rules.atan.ATan(), torch.arange(20)), expected)
