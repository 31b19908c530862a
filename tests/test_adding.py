"""docs/adding.md is so: its files, written beside a copy of the package, are found, examined and tested, by no edit."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", GUIDE, flags=re.DOTALL))

PARTS = ("src/spikeproof/attacks/", "src/spikeproof/data/", "src/spikeproof/evaluation/audits/")
"""Kinds of parts, which contracts examine."""


def test_every_kind_is_shown_by_one_file_and_its_test() -> None:
    kinds = re.findall(r"^## (.+)$", GUIDE, flags=re.MULTILINE)
    parts, tests = ([name for name in FILES if name.startswith(room)] for room in ("src/", "tests/"))
    assert len(kinds) == len(parts) == len(tests) >= 6
    assert not [name for name in FILES if (ROOT / name).exists()]


def test_the_files_of_the_guide_work_where_they_are_put(tmp_path: Path) -> None:
    for room in ("src", "tests"):  # with what is compiled of them, as their times go along; not what is half written
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("*.egg-info", "*.pyc.*"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "results" / "paper-cifar10-short", tmp_path / "results" / "paper-cifar10-short")
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    own = [name for name in FILES if name.startswith("tests/")]
    chosen = " or ".join(["test_layers", *(Path(name).stem for name in FILES)])
    run = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-vv", "-p", "no:cacheprovider",
            *own, "tests/test_layers.py", "tests/contract", "-k", chosen,
        ],
        cwd=tmp_path,
        # Plugins are rewritten for their asserts, all of hypothesis among them, and none is needed.
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    ran = run.stdout.splitlines()
    assert not [name for name in [*own, "tests/test_layers.py"] if not any(line.startswith(name) for line in ran)]
    contract = [line for line in ran if line.startswith("tests/contract/")]
    parts = [Path(name).stem for name in FILES if name.startswith(PARTS)]
    assert len(parts) >= 3
    assert not [name for name in parts if not any(name in line for line in contract)], "examined as every part is"
