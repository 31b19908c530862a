"""The file that `--config` names: as a study, looked through before anything is made of it, and no code."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import yaml
from tinycell import tiny

from spikeproof.commands import main

EVIL = "a_module_that_nobody_should_import"


def laughs(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


def refused(capsys: pytest.CaptureFixture[str], given: object) -> str:
    """What `train` says of the configuration: at once, and exit code 2."""
    started = time.process_time()
    assert main(["train", "--config", str(given), "--out", "nowhere"]) == 2
    assert time.process_time() - started < 2
    said = capsys.readouterr().err
    assert len(said) < 1000
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"model: {{class_path: {EVIL}.X}}", "data alone, got a 'class_path'"),
        (f"seed: 1\nevaluations: [{{attacks: {{a: {{using: {{class_path: {EVIL}.X}}}}}}}}]", "a 'class_path'"),
        (f"model: '{{class_path: {EVIL}.X}}'", "a text that may hold a 'class_path'"),
        ("config: other.yaml", "'config' in a cell's configuration written out"),
        ("recipe: other.yaml", "'recipe' in a cell's configuration written out"),
        (laughs(9), "characters with every alias written out"),
        ("model: " + "{a: " * 300 + "1" + "}" * 300, "mappings and lists inside each other"),
        ("evaluations: [" + "{}," * 60_000 + "]", "values and ends of values"),
        ("evaluations: [" + "{}," * 1_001 + "]", "at most 1000 entries, got 1001"),
        ("seed: 0x" + "f" * 4000, "a whole number of at most"),
        ("model: &a {b: *a}", "contains itself"),
        (f"seed: !!python/name:{EVIL}.x", "could not determine a constructor"),
        ("seed: 1\nseed: 2", "'seed' for the second time"),
        ("seed: 1\n---\nseed: 2", "a single document"),
        ("seed: 1\x00", "control characters"),
        ("seed: 2001-99-99", "month must be in 1..12"),
        ("[1, 2]", "as a mapping, got list"),
        ("", "as a mapping, got NoneType"),
        ("x" * 10_000_000, "characters"),
    ],
    ids=lambda text: text[:30],
)
def test_a_file_that_is_no_small_plain_mapping_is_refused_as_a_study_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.yaml").write_text(laughs(9), encoding="utf-8")
    Path("mine.yaml").write_text(text, encoding="utf-8")
    found = refused(capsys, "mine.yaml")
    assert said in found
    assert "mine.yaml" in found
    assert EVIL not in sys.modules


@pytest.mark.parametrize("name", ["nowhere.yaml", "folder", "/dev/zero", "/dev/null"])
def test_what_is_no_file_of_yaml_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    assert name in refused(capsys, name)


def test_the_yaml_itself_is_looked_through_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert "the command line:1: expected data alone" in refused(capsys, f"model: {{class_path: {EVIL}.X}}")
    assert "steps >= 1, got 0" in refused(capsys, "steps: 0")


def test_the_line_of_what_is_wrong_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = yaml.safe_dump(tiny(model={"name": "sew_resnet", "class_path": "x"}), sort_keys=False)
    (tmp_path / "mine.yaml").write_text(tree, encoding="utf-8")
    line = next(number for number, text in enumerate(tree.splitlines(), start=1) if "class_path" in text)
    assert f"mine.yaml:{line}: expected data alone" in refused(capsys, tmp_path / "mine.yaml")
