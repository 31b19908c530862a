"""The documents say what is so: the README's code runs, its links and commands exist."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from spikeproof import commands, parts

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


NETWORK = """
import torch
from torch import nn

class Spikes(nn.Module):
    def forward(self, x):
        return (x > 0.3).to(x) + (soft := torch.sigmoid(4 * (x - 0.3))) - soft.detach()

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), Spikes(), nn.Linear(32, 10))
"""


def test_readme_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a network of somebody's own beside it."""
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    (tmp_path / "my_network.py").write_text(NETWORK, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with torch.random.fork_rng(devices=[]):
        save_file(importlib.import_module("my_network").make().state_dict(), tmp_path / "weights.safetensors")
        exec(compile(code, "README.md", "exec"), {})
    out = capsys.readouterr().out
    assert out.startswith("ok      framework")
    assert "\nok      mode" in out
    assert "\ntier smoke: " in out
    assert re.search(r"^input gradient at the image: zero_share [\d.]+", out, re.MULTILINE)


def test_the_tutorial_of_events_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """The others are run where their frameworks are (tests/peers/test_tutorials.py)."""
    text = (ROOT / "docs" / "tutorial-events.md").read_text(encoding="utf-8")
    world: dict[str, object] = {"__name__": "tutorial_events"}
    with torch.random.fork_rng(devices=[]):
        for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
            exec(compile(block, "tutorial-events.md", "exec"), world)
    out = capsys.readouterr().out
    assert re.search(r"^tier smoke: (supported|unsettled)", out, re.MULTILINE)
    assert float(re.search(r"clean accuracy ([\d.]+)", out)[1]) > 50  # type: ignore[index]
    assert "frames.transpose(1, 2), if the polarities stand before the time" in out
    assert re.search(r"^zero_share_events [\d.]+\nzero_share_empty [\d.]+", out, re.MULTILINE)


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_linked_and_named_files_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)\)", text)
    named = re.findall(r"`((?:docs|tests|src|\.ci)/[\w./-]*[\w/])`", text)
    missing = [name for name in links + named if not name.startswith("http") and not (ROOT / name).exists()]
    assert not missing


def test_commands_of_the_readme_are_verbs() -> None:
    verbs = set(re.findall(r"^spikeproof (\w+)", README, flags=re.MULTILINE))
    assert verbs
    assert verbs <= {path.stem for path in Path(commands.__file__).parent.glob("[!_]*.py")}


def test_contributing_names_every_folder_of_parts() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for folder in parts.FOLDERS:
        assert f"`{parts.home(folder).replace('.', '/')}" in text


def test_pins_name_no_index_and_cover_the_dependencies() -> None:
    pins = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    lines = [line for line in pins.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    pinned = {line.split("==")[0].lower() for line in lines}
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (block,) = re.findall(r"^dependencies = \[(.*?)\]", project, flags=re.DOTALL | re.MULTILINE)
    wanted = {name.lower() for name in re.findall(r'"([\w.-]+?)[<>=]', block)}
    assert wanted <= pinned
