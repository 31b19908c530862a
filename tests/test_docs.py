"""The documents say what is so: the README's code runs, its links and commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from spikeproof import cli, parts

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("tier smoke: ")


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
    assert verbs <= set(cli._VERBS)


def test_contributing_names_every_folder_of_parts() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for folder in parts.FOLDERS:
        assert f"`{folder}" in text


def test_pins_name_no_index_and_cover_the_dependencies() -> None:
    pins = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    lines = [line for line in pins.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    pinned = {line.split("==")[0].lower() for line in lines}
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (block,) = re.findall(r"^dependencies = \[(.*?)\]", project, flags=re.DOTALL | re.MULTILINE)
    wanted = {name.lower() for name in re.findall(r'"([\w.-]+?)[<>=]', block)}
    assert wanted <= pinned
