"""Workers that any scheduler starts: what is left is done, nothing is lost, and nothing unfinished ends with 0."""

from __future__ import annotations

import json

import pytest
import tinycell
import warm
import workerplays
from workerplays import plays


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What went wrong in each play; all are played by one process, which has imported everything."""
    folder = tmp_path_factory.mktemp("plays")
    done = warm.run(workerplays.tell, folder, environment=tinycell.process_environment(folder / "trace"))
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("name", plays())
def test_play(found: dict[str, str], name: str) -> None:
    assert found[name] == ""
