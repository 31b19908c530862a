"""The door of the package: its names, their types as a checker sees them, and what is loaded when."""

from __future__ import annotations

import operator
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from small import digits, trained

import spikeproof

SOURCE = Path(spikeproof.__file__).parents[1]

SLOW = ("torch", "numpy", "scipy", "sklearn", "matplotlib", "PIL")
"""What takes seconds to import."""


def loaded(code: str) -> tuple[int, set[str], str]:
    """Exit code, which of SLOW are imported, and standard error, after these lines in a process of their own."""
    ended = f"import sys\ntry:\n    {code}\nfinally:\n    print(*{{*sys.modules}} & {{*{SLOW}}})"
    found = subprocess.run(
        [sys.executable, "-c", ended], env=environment(), capture_output=True, text=True, check=False
    )
    return found.returncode, set(found.stdout.splitlines()[-1].split()), found.stderr


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SOURCE), "MYPYPATH": str(SOURCE)}


def test_the_names_are_there_before_they_are_loaded() -> None:
    code, slow, _ = loaded("import spikeproof; assert {'evaluate', 'trained', 'wrap'} <= {*dir(spikeproof)}")
    assert (code, slow) == (0, set())
    assert set(spikeproof.__all__) <= set(dir(spikeproof))


@pytest.mark.parametrize("name", spikeproof.__all__)
def test_every_name_is_what_it_says(name: str) -> None:
    found = getattr(spikeproof, name)
    assert name == "__version__" or found.__name__ == name


def test_an_error_is_caught_by_its_name_at_the_door_and_where_it_was_before() -> None:
    with pytest.raises(spikeproof.UsageError, match="valid: smoke"):
        spikeproof.evaluate(trained(), *digits(2)[:2], tier="thorough")
    code, _, said = loaded("import spikeproof; assert spikeproof.types.SpikeproofError is spikeproof.SpikeproofError")
    assert (code, said) == (0, "")


def test_another_name_is_none() -> None:
    with pytest.raises(AttributeError, match="evalute"):
        operator.attrgetter("evalute")(spikeproof)


# --- types, as the checker of a user sees them ---

LINES = {
    "victim = spikeproof.trained('cells/0123')": "",
    "found = spikeproof.evaluate(victim, x, y, tier='smoke')": "",
    "spikeproof.report_of(found).splitlines()": "",
    "reveal_type(found)": r'Revealed type is "spikeproof\.evaluation\.examination\.Examination"',
    "reveal_type(victim)": r'Revealed type is "spikeproof\.victims\.victim\.Victim"',
    "reveal_type(spikeproof.check(lambda: None, x, y))": r'Revealed type is "spikeproof\.interop\.check\.Checked"',
    "spikeproof.evaluate(1, 2, bogus=3)": 'Unexpected keyword argument "bogus" for "evaluate"',
    "spikeproof.trained()": 'Missing positional argument "folder"',
    "spikeproof.sparsity(victim, x, bogus=3)": 'Unexpected keyword argument "bogus" for "sparsity"',
    "spikeproof.load('a', bogus=3)": 'Unexpected keyword argument "bogus" for "load"',
    "spikeproof.wrap(victim, x, bogus=3)": 'Unexpected keyword argument "bogus" for "wrap"',
    "spikeproof.evalute": 'Module has no attribute "evalute"',
}
"""A line of a user's script -> what `mypy --strict` says of it, '' for nothing."""

SETTINGS = """
[mypy]
strict = true
follow_imports = silent
ignore_missing_imports = true
[mypy-torch.*,numpy.*,scipy.*,jsonargparse.*,PIL.*,yaml.*,tqdm.*,filelock.*,safetensors.*]
follow_imports = skip
follow_imports_for_stubs = true
"""
"""Of what others wrote nothing is read, nor their stubs: it takes a minute, and is not asked here."""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Each of LINES -> all that mypy says of it."""
    pytest.importorskip("mypy")
    folder = tmp_path_factory.mktemp("mypy")
    head = ["import torch", "import spikeproof", "x, y = torch.rand(2, 1, 8, 8), torch.zeros(2)"]
    (folder / "script.py").write_text("\n".join([*head, *LINES]), encoding="utf-8")
    (folder / "mypy.ini").write_text(SETTINGS, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--cache-dir", os.devnull, "script.py"]
    run = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    found = dict.fromkeys(LINES, "")
    for number, text in re.findall(r"^script\.py:(\d+): (.*)$", run.stdout, re.MULTILINE):
        found[[*LINES][int(number) - len(head) - 1]] += text
    assert run.returncode == 1, run.stdout + run.stderr
    return found


@pytest.mark.parametrize("line", LINES)
def test_a_checker_sees_the_types(said: dict[str, str], line: str) -> None:
    assert re.search(LINES[line] or "^$", said[line]), said[line]


# --- a typo is answered before anything slow is imported ---


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--help",), 0, ""),
        (("--version",), 0, ""),
        (("study", "--help"), 0, ""),
        ((), 2, "a verb, got none; valid: .*demo"),
        (("stduy",), 2, "a verb, got 'stduy'; .*did you mean study"),
        (("study", "demoo"), 2, "a shipped one, got 'demoo'; .*did you mean demo"),
        (("status", "smalest"), 2, "did you mean smallest"),
        (("study", "demo", "--threadz=2"), 2, "an option of study, got '--threadz=2'; .*did you mean threads"),
        (("parts", "rulez"), 2, "a kind of part, got 'rulez'; .*did you mean rules"),
        (("evaluate", "--rule.name=atn"), 2, "a part of rules, got 'atn'; .*did you mean atan"),
        (("evaluate", "--rule.name", "atn"), 2, "a part of rules, got 'atn'; .*did you mean atan"),
        (("train", "--training_attack.name=fgsn"), 2, "a part of attacks, got 'fgsn'; .*did you mean fgsm"),
        (("train", "--training_threat.name=linff"), 2, "a part of threats, got 'linff'; .*did you mean linf"),
        (("train", "--defence.base.name=tradez"), 2, "a part of defences, got 'tradez'; .*did you mean trades"),
        (("train", "--data.name=digitz"), 2, "a part of data, got 'digitz'; .*did you mean digits"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_the_command_answers_at_once(arguments: tuple[str, ...], code: int, says: str) -> None:
    found, slow, err = loaded(f"from spikeproof.commands import main; sys.exit(main({[*arguments]}))")
    assert (found, slow) == (code, set()), err
    assert re.search(says, err, re.DOTALL), err
    assert len(err.splitlines()) <= 2


@pytest.mark.parametrize("verb", ["study", "status"])
def test_a_study_beyond_the_limits_is_refused_at_once(tmp_path: Path, verb: str) -> None:
    laughs = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9 if n else ['x'] * 9)}]\n" for n in range(9))
    (tmp_path / "laughs.yaml").write_text(laughs, encoding="utf-8")
    command = [verb, str(tmp_path / "laughs.yaml"), "--out", str(tmp_path / "out")]
    found, slow, err = loaded(f"from spikeproof.commands import main; sys.exit(main({command}))")
    assert (found, slow) == (2, set()), err
    assert re.search("a study in YAML at .*laughs.yaml, got line 6: more than", err), err
    assert not (tmp_path / "out").exists()


def test_the_package_is_a_command() -> None:
    run = [sys.executable, "-m", "spikeproof", "--version"]
    found = subprocess.run(run, env=environment(), capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["spikeproof", spikeproof.__version__]
