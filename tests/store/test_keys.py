"""Keys: what decides a number of a cell changes its key, and nothing else does. Looked at file by file."""

from __future__ import annotations

import ast
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tinycell import tiny
from tinypanel import panelled

import spikeproof
from spikeproof import native, parts
from spikeproof.store import keys
from spikeproof.store.sources import Sources, _imported, package
from spikeproof.study import run, trained
from spikeproof.study.config import CellConfig, cell_from
from spikeproof.study.run import key_of_cell
from spikeproof.study.trained import key_of_model

ROOT = Path(spikeproof.__file__).parent
DATA = {"train": "a", "test": "b"}
FGSM = [{"name": "pixels", "eps": [0.1], "attacks": {"f": {"name": "fgsm"}}}]

CELLS: dict[str, CellConfig] = {
    "plain": cell_from(tiny(evaluations=FGSM)),
    "panel": cell_from(panelled()),
    "examined": cell_from(tiny(
        evaluations=FGSM, generalisation={"corruption_images": 3, "corruptions": ["jpeg"], "robust_images": 2},
    )),
    "lif": cell_from(tiny(
        evaluations=[{**FGSM[0], "norm": "l2"}], training_threat={"name": "l1", "eps": 2.0}, neuron={"name": "lif"},
        rule={"name": "triangle"}, theory={"images": 2},
    )),
}  # fmt: skip
ALL, NONE = frozenset(CELLS), frozenset[str]()


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[set[str], set[str]]]:
    """Which cells have another key, and which another network, when the sources are these."""

    def every() -> dict[str, tuple[str, str]]:
        return {n: (key_of_cell(c, DATA, "cpu"), key_of_model(c, "a", "cpu")) for n, c in CELLS.items()}

    before = every()

    def look(**files: bytes) -> tuple[set[str], set[str]]:
        sources = Sources(ROOT)
        sources.texts = {**package().texts, **files}
        sources._imports = {f: names for f, names in package()._imports.items() if f not in files}
        with monkeypatch.context() as patch:
            patch.setattr(keys, "package", lambda: sources)
            after = every()
        rows, weights = ({n for n in CELLS if after[n][k] != before[n][k]} for k in (0, 1))
        return rows, weights

    return look


@pytest.mark.parametrize(
    ("file", "rows", "weights"),
    [
        # what every number goes through
        ("tensors.py", ALL, ALL),
        ("native/scan.c", ALL, ALL),
        ("native/pool.c", ALL, ALL),
        ("native/moments.c", ALL, ALL),
        ("native/winograd.c", ALL, ALL),
        ("layers/conv.py", ALL, ALL),
        ("victims/scene.py", ALL, ALL),
        ("training/train.py", ALL, ALL),
        ("study/trained.py", ALL, ALL),
        ("study/config/build.py", ALL, ALL),
        # what rows go through, and weights do not
        ("metrics/robustness.py", ALL, NONE),
        ("evaluation/judge.py", ALL, NONE),
        ("measures/energy.py", ALL, NONE),
        ("study/run.py", ALL, NONE),
        ("study/stages.py", ALL, NONE),
        # what decides no number
        *((file, NONE, NONE) for file in (
            "store/store.py", "store/keys.py", "store/packed.py", "report/_page.py", "commands/controls.py",
            "study/workers.py", "study/executor.py", "study/here.py",
            "study/plan.py", "study/status.py", "study/rerun.py", "study/preload.py",
            "interop/check.py",
        )),
        # parts: the cells that run them
        ("losses.py", ALL, ALL),
        ("threats/linf.py", ALL, ALL - {"lif"}),
        ("threats/_ball.py", ALL, ALL),
        ("threats/l2.py", {"lif"}, NONE),
        ("threats/l1.py", {"lif"}, {"lif"}),
        ("threats/_retime.py", NONE, NONE),
        ("data/_images.py", ALL, ALL),
        ("data/digits.py", NONE, NONE),
        ("data/cifar10.py", NONE, NONE),
        ("attacks/fgsm.py", ALL, ALL),
        ("attacks/pgd.py", {"panel", "examined", "lif"}, NONE),
        ("attacks/_ascent.py", {"panel", "examined", "lif"}, NONE),
        ("attacks/square.py", {"panel"}, NONE),
        ("attacks/rfgsm.py", NONE, NONE),
        ("neurons/if_.py", {"plain", "panel", "examined"}, {"plain", "panel", "examined"}),
        ("neurons/lif.py", {"lif"}, {"lif"}),
        ("neurons/_stepwise.py", ALL, ALL),
        ("neurons/plif.py", NONE, NONE),
        ("rules/triangle.py", {"lif", "panel"}, {"lif"}),
        ("rules/_surrogate.py", ALL, ALL),
        ("encoders/direct.py", {"panel"}, {"panel"}),
        ("encoders/poisson.py", NONE, NONE),
        ("models/_sew_block.py", ALL, ALL),
        ("models/spiking_resnet.py", NONE, NONE),
        ("defences/vanilla.py", ALL, ALL),
        ("defences/__init__.py", ALL, ALL),
        ("defences/trades.py", NONE, NONE),
        ("estimators/spsa.py", {"panel"}, NONE),
        ("evaluation/audits/domain.py", {"panel"}, NONE),
        ("corruptions/jpeg.py", {"examined"}, NONE),
        ("corruptions/shot_noise.py", NONE, NONE),
    ],
)  # fmt: skip
def test_a_changed_file_changes_the_keys_of_the_cells_that_run_it(
    changed: Any, file: str, rows: set[str], weights: set[str]
) -> None:
    assert changed(**{file: package().texts[file] + b"\n# another\n"}) == (rows, weights)


IN_ROWS = {"metrics", "evaluation", "measures"}
IN_WEIGHTS = {".", "native", "layers", "victims", "training"}
FOLDERS = sorted({path.parent.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py")})


@pytest.mark.parametrize("name", ["new.py", "_new.py"])
@pytest.mark.parametrize("folder", FOLDERS)
def test_a_new_file_changes_no_key_but_where_every_file_counts(changed: Any, folder: str, name: str) -> None:
    """A new part, a section of the report, a verb, a way to run cells: none makes a finished cell another one."""
    rows = ALL if folder in IN_ROWS | IN_WEIGHTS else {"panel"} if folder == "evaluation/audits" else NONE
    found = changed(**{f"{folder}/{name}".removeprefix("./"): b'"""New."""\n'})
    assert found == (rows, ALL if folder in IN_WEIGHTS else NONE)


def test_a_file_of_the_disk_is_read_once(tmp_path: Path) -> None:
    """What is edited while a study runs is not what runs."""
    shutil.copytree(ROOT / "rules", tmp_path / "rules")
    sources = Sources(tmp_path)
    before = sources.digest(sources.texts)
    (tmp_path / "rules" / "atan.py").write_text("import os\n", encoding="utf-8")
    assert sources.digest(sources.texts) == before
    assert sources.digest(["rules/atan.py"]) != Sources(tmp_path).digest(["rules/atan.py"])


def test_what_makes_no_weight_is_not_under_what_does() -> None:
    """A room of weights that imported metrics would need them in the key of a network."""
    sources = package()
    for file in sources.texts:
        if keys._room(file) in IN_WEIGHTS - {"."}:
            assert not {keys._room(other) for other in sources.imports(file)} & {*IN_ROWS, "study", "store"}, file


def test_without_a_panel_the_judges_name_no_part() -> None:
    """So parts that the room of evaluation imports count for cells with a panel alone."""
    sources = package()
    judges = sources.reached(
        ["evaluation/judge.py", "evaluation/paper.py"], lambda file: keys._room(file) == "evaluation"
    )
    assert [file for file in judges if any(keys._room(other) == "parts" for other in sources.imports(file))] == []


def test_imports_are_found_wherever_an_import_may_stand() -> None:
    """As a walk over everything in a file finds them, expressions included, but for what only a checker of types
    reads."""
    for file, text in package().texts.items():
        if file.endswith(".py"):
            nodes = list(ast.walk(ast.parse(text)))
            typed = [node for node in nodes if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
            unread = {id(inner) for node in typed for one in node.body for inner in ast.walk(one)}
            everything = [
                node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in unread
            ]
            names = _imported(ast.Module(everything, []))
            known = {path for name in names if (path := package().of_module(name)) is not None}
            assert package().imports(file) == known - {file}, file


def test_imports_are_followed_into_folders_and_out_of_functions(tmp_path: Path) -> None:
    for file, text in {
        "a/__init__.py": "", "a/one.py": "def f():\n    from spikeproof.a import two\n", "a/two.py": "import os\n",
        "b.py": "from spikeproof.a.one import f\nfrom spikeproof.c import g\nimport spikeproof.d.e as h\n",
        "c.py": "", "d/__init__.py": "", "d/e.py": "", "z.py": "import a.one\n",
    }.items():  # fmt: skip
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text, encoding="utf-8")
    sources = Sources(tmp_path)
    assert sources.imports("b.py") == {"a/__init__.py", "a/one.py", "c.py", "d/__init__.py", "d/e.py"}
    assert sources.imports("z.py") == frozenset()
    assert sources.reached(["b.py"], lambda file: file.startswith("a/")) == {
        "b.py", "a/__init__.py", "a/one.py", "a/two.py",
    }  # fmt: skip


@pytest.mark.parametrize(
    "line", ["from spikeproof.threats import Linf as Base", "import spikeproof.threats as t\nBase = t.Linf"]
)
def test_a_threat_that_a_user_s_stands_on_is_in_the_key_however_it_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_threat_of_a_user.py").write_text(f"{line}\n\n\nclass Mine(Base):\n    pass\n", encoding="utf-8")
    monkeypatch.delitem(sys.modules, "own_threat_of_a_user", raising=False)
    sources = Sources(ROOT)
    file = sources.of_user("own_threat_of_a_user")
    assert file is not None
    assert {"threats/linf.py", "threats/_ball.py"} <= sources.reached(
        [file], lambda other: other.startswith("threats/")
    )


def test_the_source_of_a_user_s_part_is_in_the_key_with_the_parts_that_it_stands_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: Any
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    source = tmp_path / "own_attack_of_a_user.py"
    code = "from spikeproof.attacks.rfgsm import RFGSM\n\n\ndef mine():\n    return RFGSM()\n"
    source.write_text(code, encoding="utf-8")
    named = frozenset({("attacks", "own_attack_of_a_user:mine")})

    def look(**files: bytes) -> tuple[str, str]:
        sources = Sources(ROOT)
        sources.texts = {**package().texts, **files}
        monkeypatch.setattr(keys, "package", lambda: sources)
        return keys.rows_code(run.__name__, named, panel=False), keys.weights_code(trained.__name__, named)

    first = look()
    assert look() == first
    rfgsm, poisson = (package().texts[f] + b"\n#\n" for f in ("attacks/rfgsm.py", "encoders/poisson.py"))
    assert all(a != b for a, b in zip(look(**{"attacks/rfgsm.py": rfgsm}), first, strict=True))
    assert look(**{"encoders/poisson.py": poisson}) == first
    source.write_text(f"{code}\n# another\n", encoding="utf-8")
    assert all(a != b for a, b in zip(look(), first, strict=True))


def test_a_user_s_part_that_wraps_a_foreign_network_has_the_wrapping_in_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the door of the room and on; no other cell asks for that room."""
    monkeypatch.syspath_prepend(tmp_path)
    for name, line in (("wrapping", "from spikeproof.interop.wrap import wrap"), ("bare", "import torch")):
        (tmp_path / f"own_{name}_model.py").write_text(f"{line}\n\n\ndef mine(): ...\n", encoding="utf-8")

    def look(name: str, **files: bytes) -> str:
        sources = Sources(ROOT)
        sources.texts = {**package().texts, **files}
        monkeypatch.setattr(keys, "package", lambda: sources)
        return keys.rows_code(run.__name__, frozenset({("models", f"own_{name}_model:mine")}), panel=False)

    text = {"interop/_wrapped.py": package().texts["interop/_wrapped.py"] + b"\n#\n"}
    assert look("wrapping", **text) != look("wrapping")
    assert look("bare", **text) == look("bare")


def test_the_kind_of_device_is_in_the_key_where_the_scan_is_written_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "form", lambda _: "torch")
    monkeypatch.setenv("SPIKEPROOF_FAST", "0")
    cell = CELLS["plain"]
    assert key_of_cell(cell, DATA, "cpu") != key_of_cell(cell, DATA, "cuda")
    assert key_of_model(cell, "a", "cpu") != key_of_model(cell, "a", "cuda")
    assert key_of_cell(cell, DATA, "cuda:0") == key_of_cell(cell, DATA, "cuda:1")


def test_the_form_of_the_scan_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a compiler rounds otherwise, and so does one whose fast paths are off."""
    cell, found = CELLS["plain"], set()
    for form in ("C", "torch", "Triton"):
        monkeypatch.setattr(native, "form", lambda _, form=form: form)
        found.add((key_of_cell(cell, DATA, "cpu"), key_of_model(cell, "a", "cpu")))
    monkeypatch.setattr(native, "form", lambda _: "torch")
    monkeypatch.setenv("SPIKEPROOF_FAST", "0")
    found.add((key_of_cell(cell, DATA, "cpu"), key_of_model(cell, "a", "cpu")))
    assert len({key for key, _ in found}) == len({model for _, model in found}) == 4


def test_every_part_has_a_file_that_keys_find() -> None:
    for folder in parts.FOLDERS:
        for name in parts.names(folder):
            file = package().of_module(parts.module_name(folder, name))
            assert file is not None, (folder, name)
            assert keys._room(file) == "parts"
