"""Every command and every program of the docs is run by a test, or listed here with the reason why not."""

from __future__ import annotations

import importlib
import shlex
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from test_site import DOCUMENTS, PAGES, ROOT, blocks, commands
from tinycell import smallest

from spikeproof.commands import main
from spikeproof.data.digits import Digits
from spikeproof.study.config import load_study

RUN = (
    "spikeproof study my-study.yaml",
    "spikeproof study --help",
    "spikeproof parts",
    "spikeproof plan my-study.yaml",
    "spikeproof status my-study.yaml",
    "spikeproof inspect my-runs",
    "spikeproof reproduce KEY",
    "spikeproof pack runs results/mine",
    "spikeproof transfer runs",
    "spikeproof report runs",
    "spikeproof report runs --figures column",
    "spikeproof cite runs --header",
    "spikeproof check my_network:make",
    "spikeproof check my_network:make --weights weights.safetensors --images digits",
)
"""In this order, in a folder with two small networks' cells in `runs`, and a network of somebody's own."""

NOT_RUN = {
    "spikeproof entry runs/cells/KEY --into board": "tests/board/test_make.py runs it",
    "spikeproof board board": "tests/board/test_page.py runs it",
    ". .venv/bin/activate": "of the shell's own",
    "make *": "sets up an environment, or runs every test",
    "python -m benchmarks*": "minutes to hours, and some need the peers; run by hand",
    "python -m manual*": "`make docs` runs it",
    "spikeproof board": "names the verb",
    "spikeproof controls*": "minutes; tests/study/test_controls.py runs some of them",
    "spikeproof evaluate --config cell.yaml --tier standard*": "minutes; tests/commands/test_cli.py runs it without",
    "spikeproof evaluate --model.pool=avg *": "trains for minutes",
    "spikeproof evaluate --tier quick --eps 8/255": "trains for minutes",
    "spikeproof evaluate my_network:make *": "minutes; tests/commands/test_own_network.py runs it by the tier smoke",
    "spikeproof entry runs/mine/cells/KEY *": "tests/board/test_make.py runs its options",
    "spikeproof findings*": "needs CIFAR-10",
    "spikeproof plan": "names the verb",
    "spikeproof report results/*": "up to a minute; that the folder is there is looked at below",
    "spikeproof reproduce KEY --trust": "tests/commands/test_own_network.py runs it",
    "spikeproof status study.yaml --out /shared/runs": "needs a cluster: tests/cluster runs it",
    "spikeproof study study.yaml --out /shared/runs *": "needs a cluster: tests/cluster runs it",
    "spikeproof study *-digits": "minutes to hours; the study is read to its end below",
    "spikeproof study *-nmnist*": "needs N-MNIST; the study is read to its end below",
    "spikeproof study *cifar10*": "needs CIFAR-10 and hours; the study is read to its end below",
    "spikeproof verify *": "tests/board/test_verify.py runs it, on inputs made as the page makes them",
    "spikeproof worker*": "needs a cluster: tests/cluster runs it",
}
"""A pattern of commands -> why they are not run here. tests/test_site.py parses every one."""

PROGRAMS = {
    "README.md": "tests/test_docs.py",
    "adding.md": "tests/test_adding.py",
    "board.md": "tests/board/test_verify.py",
    "tutorial-events.md": "tests/test_docs.py",
    "tutorial-own-neurons.md": "tests/peers/test_tutorials.py",
    "tutorial-snntorch.md": "tests/peers/test_tutorials.py",
    "tutorial-spikingjelly.md": "tests/peers/test_tutorials.py",
    "tutorial-transformer.md": "tests/peers/test_tutorials.py",
}
"""Where the python blocks of a document are run, if not with those of the pages (tests/test_site.py)."""

NETWORK = """
import torch
from torch import nn

class Spikes(nn.Module):
    def forward(self, x):
        soft = torch.sigmoid(4 * (x - 0.3))
        return (x > 0.3).to(x) + soft - soft.detach()

class Grey(nn.Module):
    def forward(self, x):
        return x.mean(1).flatten(1)

def make():
    torch.manual_seed(0)
    return nn.Sequential(Grey(), nn.Linear(64, 32), Spikes(), nn.Linear(32, 10))
"""

PANEL = {"name": "panel", "protocol": "panel", "tier": "smoke", "eps": [0.1]}
STUDY = {
    "title": "Two small networks",
    "base": smallest(
        evaluations=[PANEL],
        headline={"evaluation": "panel", "eps": 0.1},
        gradients={"images": 2, "weight_images": 1, "batch_size": 2},
    ),
    "axes": {"pool": {"max": {"model.pool": "max"}, "avg": {"model.pool": "avg"}}},
}


def written() -> list[str]:
    """Every command of the docs once, without its comment."""
    found = (shlex.join(shlex.split(line, comments=True)) for path in DOCUMENTS for line in commands(path))
    return list(dict.fromkeys(line for line in found if line))


def reasons(line: str) -> list[str]:
    return [pattern for pattern in NOT_RUN if fnmatchcase(line, pattern)]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What a reader has who runs them: a study, a network with weights, and a folder of images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("my_network", None)
    (tmp_path / "my-study.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False), encoding="utf-8")
    (tmp_path / "my_network.py").write_text(NETWORK, encoding="utf-8")
    (tmp_path / "my-runs").symlink_to("runs")
    with torch.random.fork_rng(devices=[]):
        save_file(importlib.import_module("my_network").make().state_dict(), tmp_path / "weights.safetensors")
        images, labels, _ = Digits().load("test").at(torch.arange(60))
        for label in range(10):
            folder = tmp_path / "FOLDER" / "test" / str(label)
            folder.mkdir(parents=True)
            pixels = (255 * images[labels == label][0, 0]).round().to(torch.uint8).numpy()
            Image.fromarray(pixels).save(folder / "0.png")
        yield tmp_path
    sys.modules.pop("my_network", None)


def test_every_command_of_the_docs_is_run_or_listed_with_its_reason() -> None:
    every = written()
    for line in every:
        assert (line in RUN) + len(reasons(line)) == 1, f"{line}: {reasons(line)}"
    assert set(RUN) <= set(every)
    assert {pattern for line in every for pattern in reasons(line)} == set(NOT_RUN)


@pytest.mark.usefixtures("undrawn")
def test_the_commands_run(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """3 says that a number could not be trusted, which of ten images none can; all else is a failure."""
    for line in RUN:
        words = [word.replace("KEY", _newest(home)) if "KEY" in word else word for word in shlex.split(line)[1:]]
        try:
            code = main(words)
        except SystemExit as stop:
            code = int(stop.code or 0)
        assert code in (0, 3), f"{line}: {code}\n{capsys.readouterr().err}"


def _newest(home: Path) -> str:
    """The key of the cell that was made last."""
    return max((home / "runs" / "cells").glob("*/summary.json"), key=lambda path: path.stat().st_mtime).parent.name


def test_what_is_not_run_names_what_there_is() -> None:
    """A study of the package, each cell of it; results that are packed here; a module."""
    for line in written():
        words = shlex.split(line)
        if words[:2] == ["spikeproof", "study"] and not words[2].startswith("--") and not words[2].endswith(".yaml"):
            assert load_study(ROOT / "src" / "spikeproof" / "studies" / f"{words[2]}.yaml").cells(), line
        elif words[:2] == ["spikeproof", "report"] and words[2].startswith("results/"):
            assert list((ROOT / words[2]).glob("*.json.xz")), line


def test_every_program_of_the_docs_is_run_somewhere() -> None:
    for path in DOCUMENTS:
        if not blocks(path, "python") or path in PAGES:
            continue
        test = ROOT / PROGRAMS[path.name]
        assert path.stem.removeprefix("tutorial-") in test.read_text(encoding="utf-8"), path.name
    assert set(PROGRAMS) <= {path.name for path in DOCUMENTS if blocks(path, "python")}
