"""A verb is one file of the folder: found by its name, with the first line of its docstring as its help."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from spikeproof import commands

FOLDER = Path(commands.__file__).parent

GREET = '''"""say hello to somebody

Not shown in the list.
"""

from jsonargparse import ArgumentParser, Namespace

from spikeproof.errors import UsageError


def options(parser: ArgumentParser) -> None:
    parser.add_argument("name")
    parser.add_argument("--times", type=int, default=1)


def run(options: Namespace) -> int:
    if options.times < 1:
        raise UsageError("times >= 1", options.times)
    print("hello", *[options.name] * options.times)
    return 3
'''


@pytest.fixture
def greet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One more file in the folder, and nothing else."""
    (tmp_path / "greet.py").write_text(GREET, encoding="utf-8")
    (tmp_path / "_private.py").write_text("raise AssertionError", encoding="utf-8")
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    yield
    sys.modules.pop("spikeproof.commands.greet", None)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        code = commands.main(arguments)
    except SystemExit as stop:
        code = int(stop.code or 0)
    found = capsys.readouterr()
    return code, found.out, found.err


@pytest.mark.usefixtures("greet")
def test_a_verb_is_one_file(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, "--help")
    assert code == 0
    assert "    greet               say hello to somebody\n" in out
    assert "private" not in out
    assert "Not shown" not in out
    assert "spikeproof.commands.greet" not in sys.modules, "the help of one verb imports none"
    assert said(capsys, "greet", "you", "--times=2") == (3, "hello you you\n", "")
    assert "--times TIMES" in said(capsys, "greet", "--help")[1]
    assert said(capsys, "greet", "you", "--times=0")[0] == 2
    assert "valid: board, check, " in said(capsys, "great")[2]
    assert "did you mean greet?" in said(capsys, "great")[2]


def test_without_the_file_there_is_no_such_verb(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(capsys, "greet", "you")
    assert (code, out) == (2, "")
    assert "greet" not in err.partition("valid: ")[2]


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("[!_]*.py")))
def test_every_file_is_a_verb(name: str) -> None:
    verb = import_module(f"spikeproof.commands.{name}")
    assert list(inspect.signature(verb.options).parameters) == ["parser"]
    assert list(inspect.signature(verb.run).parameters) == ["options"]
    first, _, rest = str(verb.__doc__).partition("\n")
    assert 10 < len(first) < 120
    assert not rest or rest.startswith("\n"), "the help is one line"
