"""What is too large or has no possible name: refused by a study or a cell before any work, soon, in little memory."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import warm
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tinycell import tiny

from spikeproof import parts
from spikeproof.errors import UsageError
from spikeproof.limits import CELLS, ENTRIES, NAME_BYTES, NUMBER, STEPS, TENSORS, WIDTH, check_different, check_name
from spikeproof.study.config import Study, cell_from, load_study
from spikeproof.threats._radius import radius

# --- numbers ---


NO_ENTRIES = [
    "1e99999999", "1e999999999999", "-1e99999999", "9" * 65, "9" * 5000 + "/1", 10**400, 10**5000, "1/" + "9" * 5000,
    "1e400", "1e9999/3", None, [], "nan", float("nan"), "inf", "1/0",
]  # fmt: skip


@pytest.mark.parametrize("eps", NO_ENTRIES, ids=lambda eps: f"{type(eps).__name__} of {sys.getsizeof(eps)} bytes")
def test_a_budget_that_is_no_number_of_a_machine_is_refused(eps: Any) -> None:
    with pytest.raises(UsageError, match=r"^expected eps as a number >= 0") as error:
        radius(eps)
    assert len(str(error.value)) < 200


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_a_fraction_is_the_quotient_and_a_decimal_itself(over: int, under: int) -> None:
    assert radius(f"{over}/{under}") == over / under
    assert radius(str(over / under)) == over / under


@pytest.mark.parametrize(
    "tree",
    [
        {"steps": 10**9},
        {"steps": STEPS + 1},
        {"model": {"name": "small_sew_resnet", "width": 10**9}},
        {"model": {"name": "small_sew_resnet", "width": NUMBER}},
        {"model": {"name": "sew_resnet", "width": WIDTH + 1}},
        {"neuron": {"name": "dlif", "steps": 10**9}},
        {"neuron": {"name": "step_leak", "steps": NUMBER}},
        {"training_attack": {"name": "pgd", "steps": 10**12}},
        {"recipe": {"batch_size": 10**5000}},
        {"recipe": {"epochs": 2**64}},
        {"train_images": 10**5000},
        {"seed": 2**63},
        {"seed": 10**5000},
        {"evaluations": [{"eps": ["1e99999999"]}]},
        {"evaluations": [{"eps": [10**5000]}]},
        {"evaluations": [{"eps": [n / 1000 for n in range(ENTRIES + 1)]}]},
        {"evaluations": [{"eps": [None]}]},
        {"evaluations": [{"attacks": {f"a{n}": {"name": "fgsm"} for n in range(ENTRIES + 1)}}]},
        {"evaluations": [{"name": f"e{n}"} for n in range(ENTRIES + 1)]},
        {"evaluations": [{"attacks": {"a": {"name": "code_search", "levels": NUMBER}}}]},
        {"training_threat": {"name": "linf", "eps": None}},
        {"training_threat": {"name": "linf", "eps": "1e99999999"}},
        {"gradients": {"scalars": ["ce", "ce"]}},
        {"generalisation": {"corruptions": ["blur"] * 20_000}},
        {"theory": {"draws": 10**18}},
    ],
    ids=lambda tree: next(iter(tree)),
)  # fmt: skip
def test_what_is_too_much_for_any_machine_is_one_sentence(tree: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"^expected .*, got ") as error:
        cell_from(tiny(**tree))
    assert error.value.path[0] in tree


@pytest.mark.parametrize(
    ("tree", "path"),
    [
        ({"steps": None}, ("steps",)),
        ({"seed": None}, ("seed",)),
        ({"name": None}, ("name",)),
        ({"model": {"name": "small_sew_resnet", "width": None}}, ("model", "width")),
        ({"model": {"name": None}}, ("model", "name")),
        ({"model": {"name": {"a": "b"}}}, ("model", "name")),
        ({"recipe": {"flip": None}}, ("recipe", "flip")),
        ({"recipe": {"momentum": None}}, ("recipe", "momentum")),
        ({"gradients": {"scalars": None}}, ("gradients", "scalars")),
        ({"gradients": {"batch_size": None}}, ("gradients", "batch_size")),
        ({"theory": {"draws": None}}, ("theory", "draws")),
        ({"generalisation": {"corruptions": None}}, ("generalisation", "corruptions")),
        ({"evaluations": [{"attacks": {1: {"name": "fgsm"}}}]}, ("evaluations", 0, "attacks")),
        ({"evaluations": [{"attacks": {"a": {"name": "pgd", "steps": None}}}]},
         ("evaluations", 0, "attacks", "a", "steps")),
    ],
    ids=str,
)  # fmt: skip
def test_nothing_where_something_must_be_is_one_sentence(tree: dict[str, Any], path: tuple[str | int, ...]) -> None:
    with pytest.raises(UsageError, match=r"^expected .*, got ") as error:
        cell_from(tiny(**tree))
    assert error.value.path == path


def options() -> list[tuple[str, str, str]]:
    """Every whole number among the options of the parts of a cell."""
    folders = ("encoders", "neurons", "attacks", "estimators")
    listed = [(f, name, arguments.split(", ")) for f in folders for name, arguments, _ in parts.describe(f)]
    return [(f, n, a.split("=")[0]) for f, n, several in listed for a in several if a.partition("=")[2].isdigit()]


@pytest.mark.parametrize(("folder", "name", "option"), options())
@pytest.mark.parametrize("number", [NUMBER, NUMBER + 1])
def test_the_largest_number_of_every_part_costs_no_more_than_any_other(
    folder: str, name: str, option: str, number: int
) -> None:
    part = {"name": name, option: number}
    tree = {
        "encoders": {"encoder": part},
        "neurons": {"neuron": part},
        "attacks": {"evaluations": [{"attacks": {"a": part}}]},
        "estimators": {"evaluations": [{"estimator": part, "attacks": {"a": {"name": "pgd"}}}]},
    }[folder]
    try:
        cell_from(tiny(**tree))
    except UsageError:
        return
    assert number == NUMBER


# --- names ---

BAD_NAMES = [
    "", "a" * (NAME_BYTES + 1), "é" * (NAME_BYTES // 2 + 1), "a\nb", "a\x00b", "\x1b[2J", "\ud800", "a\udfff", "\u2028",
    "\x85",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_a_name_that_no_terminal_or_file_should_have_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="the name of a cell"):
        cell_from(tiny(name=name))
    with pytest.raises(UsageError, match="a title"):
        Study(name, tiny())
    with pytest.raises(UsageError, match=r"the name of an attack|one attack or more"):
        cell_from(tiny(evaluations=[{"attacks": {name: {"name": "fgsm"}}}]))
    with pytest.raises(UsageError, match="the name of a cell") as error:
        Study("t", tiny(), {"a": {name or chr(7): {}}}).cells()
    str(error.value).encode()


@pytest.mark.parametrize("name", [*BAD_NAMES, "/", "..", ".", "a/b", "-a", "a b", "a\\b", "a:b", "~"], ids=ascii)
def test_an_evaluation_that_no_file_can_be_named_by_is_refused(name: str) -> None:
    with pytest.raises(UsageError) as error:
        cell_from(tiny(evaluations=[{"name": name}]))
    assert error.value.path == ("evaluations", 0, "name")
    str(error.value).encode()


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for files of any name."""
    return tmp_path_factory.mktemp("names")


@given(st.text(max_size=250))
@settings(deadline=None)
def test_a_name_that_passes_can_be_written_wherever_a_name_is(names: Path, name: str) -> None:
    try:
        check_name("a name", name)
    except UsageError as error:
        str(error).encode()
        return
    assert len(f"{name}\n".splitlines()) == 1
    file = names / f".attack-{name.replace('/', '-')}.jsonl.4194304.tmp"
    file.write_text(json.dumps(name), encoding="utf-8")
    assert json.loads(file.read_text("utf-8")) == name


# --- a study ---


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("axes: null", "axes as dict.*got None; to mend: leave it out"),
        ("axes: {a: {}}", "one value or more on axis 'a'"),
        ("axes: {a: {v: {}}, b: {}}", "one value or more on axis 'b'"),
        ("axes: []", "axes"),
        ("seeds: null", "seeds as list.*got None; to mend: leave it out"),
        ("axes: {a: null}", "axes"),
        ("axes: {a: {v: {3: 3}}}", "keys of a cell's configuration on axis 'a', got 3"),
        ("axes: {a: {v: {model.name.x: 3}}}", "a part of models by its name"),
        ("seeds: [null]", "seeds"),
        ("seeds: ~", "seeds as list"),
        ("seeds: [0, 0]", "different seeds, got 0 twice"),
        ("seeds: [3, 1, 2, 1]", "different seeds, got 1 twice"),
        (f"seeds: {list(range(CELLS + 1))}", f"at most {CELLS} cells"),
        ("axes: {" + ", ".join(f"a{n}: {{x: {{}}, y: {{}}}}" for n in range(60)) + "}", f"at most {CELLS} cells"),
        ("axes: {a: {v: {evaluations: [{eps: [1e99999999]}]}}}", "eps as a number"),
        ("axes: {a: {v: {evaluations: [{eps: [null]}]}}}", "eps as a number"),
        ("axes: " + "{a: " * 200 + "1" + "}" * 200, "mappings and lists inside each other"),
        ("axes: &a {a: &b [*a, *b]}", "contains itself"),
    ],
    ids=lambda text: text[:40],
)  # fmt: skip
def test_a_study_that_cannot_be_is_one_sentence_that_names_its_file(tmp_path: Path, more: str, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"title: t\nbase: {{}}\n{more}\n", encoding="utf-8")
    with pytest.raises(UsageError, match=rf"(?s)mine\.yaml.*{said}") as error:
        load_study(path).cells()
    assert len(str(error.value)) < 1000


@given(st.lists(st.integers(0, 9), max_size=6))
def test_values_are_different_or_the_first_that_comes_again_is_named(values: list[int]) -> None:
    again = [value for place, value in enumerate(values) if value in values[:place]]
    if not again:
        check_different("things", values)
        return
    with pytest.raises(UsageError, match=f"^expected different things, got {again[0]} twice$"):
        check_different("things", values)


# --- weights ---


def test_weights_that_are_no_safetensors_are_refused_before_any_work(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(3)}, tmp_path / "zip.pt")
    torch.save({"a": torch.ones(3)}, tmp_path / "pickle.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "text").write_text("weights: none\n" * 9, encoding="utf-8")
    (tmp_path / "length").write_bytes((2**40).to_bytes(8, "little") + b"{}")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    save_file({"a": torch.ones(3)}, tmp_path / "right")
    save_file({f"{n}": torch.ones(0) for n in range(TENSORS + 1)}, tmp_path / "many")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    names = ("zip.pt", "pickle.pt", "text", "length", "empty", "folder", "pipe", "zeros", "nowhere", "many", "x" * 5000)
    for name in names:
        with pytest.raises(UsageError, match=f"{name}.*to mend: give a .safetensors file") as error:
            cell_from(tiny(weights=str(tmp_path / name)))
        assert error.value.path == ("weights",)
    save_file({"a": torch.ones(3)}, tmp_path / "foreign", {"spikeproof": json.dumps({"history": "abc"})})
    with pytest.raises(UsageError, match=r"its history in .*foreign, got 'abc'"):
        cell_from(tiny(weights=str(tmp_path / "foreign")))
    assert cell_from(tiny(weights=str(tmp_path / "right"))).weights == str(tmp_path / "right")


# --- what it costs to refuse ---

COST = """
import resource, time
from pathlib import Path
from tinycell import tiny
from spikeproof.errors import UsageError
from spikeproof.study.config import cell_from, load_study
cell_from(tiny())
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
def seconds(tree):
    started = time.process_time()
    try:
        cell_from(tiny(**tree)) if isinstance(tree, dict) else load_study(Path(tree)).cells()
        print("taken", tree)
    except UsageError:
        return time.process_time() - started
seconds({"steps": 10**9})  # of a fork, whose memory is its own from the first touch on
for tree in trees:
    before = peak()
    found = min(seconds(tree), seconds(tree))  # twice a second is allowed: what else is at work makes it seem longer
    megabytes = (peak() - before) / 1000
    print("ok" if found < 2 and megabytes < 200 else "dear", found, megabytes, tree)
"""


def test_each_is_refused_within_a_second_and_200_mb(tmp_path: Path) -> None:
    laughs = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9 if n else ['x'] * 9)}]\n" for n in range(9))
    (tmp_path / "laughs.yaml").write_text(f"title: t\nbase: {{}}\n{laughs}", encoding="utf-8")
    (tmp_path / "large.yaml").write_bytes(b"x" * 100_000_000)
    trees = [
        {"steps": 10**9}, {"model": {"name": "small_sew_resnet", "width": 10**9}},
        {"model": {"name": "sew_resnet", "depth": 50, "width": NUMBER}}, {"neuron": {"name": "dlif", "steps": 10**9}},
        {"evaluations": [{"eps": ["1e99999999"]}]}, str(tmp_path / "laughs.yaml"), str(tmp_path / "large.yaml"),
    ]  # fmt: skip
    done = warm.run(exec, COST, {"trees": trees}, environment={**os.environ})
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ok"] * len(trees), done.stdout
