"""Which files of a user's a module imports: however it says so, nothing that is installed; and none of it is run."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from spikeproof.store._own_files import own_files
from spikeproof.store.sources import Sources

FILES = {
    "own_top.py": "raise AssertionError\n",
    "own_pack/__init__.py": "raise AssertionError\n",
    "own_pack/one.py": "from . import two\nfrom .deep.three import X\nfrom .. import nothing_of_the_kind\n",
    "own_pack/two.py": "",
    "own_pack/deep/__init__.py": "",
    "own_pack/deep/three.py": "from ..two import Y\n",
    "own_space/inner.py": "",
}
TEXT = """
import os, json, torch, numpy as np, spikeproof.rules.atan, not_there_at_all
from torch import nn
import own_top
def later():
    try:
        from own_pack.one import thing
    except ImportError:
        import own_space.inner as i, own_pack.nowhere
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def found(home: Path, text: str, file: str = "mine.py", module: str = "mine") -> set[str]:
    pairs = own_files(ast.parse(text), str(home / file), module)
    return {Path(path).relative_to(home).as_posix() for path, _ in pairs}


def test_a_user_s_own_modules_are_found_and_not_run(home: Path) -> None:
    assert found(home, TEXT) == {"own_top.py", "own_pack/__init__.py", "own_pack/one.py", "own_space/inner.py"}
    assert not {"own_top", "own_pack", "own_space"} & sys.modules.keys()


def test_relative_imports_are_from_the_package_they_stand_in(home: Path) -> None:
    pack = {"own_pack/__init__.py"}
    one = FILES["own_pack/one.py"]
    assert found(home, one, "own_pack/one.py", "own_pack.one") == {
        *pack, "own_pack/two.py", "own_pack/deep/__init__.py", "own_pack/deep/three.py",
    }  # fmt: skip
    three = FILES["own_pack/deep/three.py"]
    assert found(home, three, "own_pack/deep/three.py", "own_pack.deep.three") == {*pack, "own_pack/two.py"}
    assert found(home, "from .two import Y\n", "own_pack/__init__.py", "own_pack") == {*pack, "own_pack/two.py"}
    assert found(home, "from . import lost\nfrom .... import lost\n") == set()


def test_a_module_that_runs_is_where_it_came_from(home: Path, tmp_path: Path) -> None:
    """A path that was on the way when it was imported, and is there no more."""
    other = tmp_path / "gone" / "own_gone.py"
    other.parent.mkdir()
    other.write_text("X = 1\n", encoding="utf-8")
    sys.path.insert(0, str(other.parent))
    try:
        __import__("own_gone")
    finally:
        sys.path.remove(str(other.parent))
    try:
        assert found(home, "import own_gone\n") == {"gone/own_gone.py"}
    finally:
        del sys.modules["own_gone"]


def test_a_digest_asks_for_contents_and_not_for_places(tmp_path: Path) -> None:
    """Two files of one name, in folders whose names stand in another order."""

    def digest(*folders: str) -> str:
        sources = Sources(tmp_path / "nothing")
        for folder, text in zip(folders, ("a = 1\n", "b = 2\n"), strict=True):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / "net.py").write_text(text, encoding="utf-8")
            sources._read(str(tmp_path / folder / "net.py"), "net")
        return sources.digest(sources._own)

    assert digest("x", "y") == digest("q", "p")


def test_what_has_no_source_is_no_file() -> None:
    assert Sources(Path("nowhere")).of_user("builtins") is None
