"""Workers that any scheduler starts: what is left is done, nothing is lost, and nothing unfinished ends with 0."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import tinycell
import workerplays
from workerplays import plays


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What went wrong in each play; all of them are played by one process, which imports torch once."""
    folder = tmp_path_factory.mktemp("plays")
    words = [sys.executable, str(Path(workerplays.__file__)), str(folder)]
    done = tinycell.run(words, tinycell.process_environment(folder / "trace"))
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("name", plays())
def test_play(found: dict[str, str], name: str) -> None:
    assert found[name] == ""
