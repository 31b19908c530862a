"""Who may import whom: every import line of the package against the order of its rooms."""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import spikeproof
from spikeproof import parts

SOURCE = Path(spikeproof.__file__).parent

ROOMS = (
    "native",
    "ground",  # the files at the top of the package that are no axis
    "layers",
    "axes",  # what a user chooses: the folders and files that `parts` finds values in
    "metrics",
    "victims",
    "training",
    "evaluation",
    "interop",
    "measures",
    "store",
    "report",
    "study",
    "board",
    "commands",
)
"""From the ground up. A file imports from its own room, and from the rooms before it."""

FOUNDATION = {"torch", "numpy", "jsonargparse"}
"""What native, the ground and the layers may use besides the standard library; jsonargparse reads a part's options."""

BESIDE_TORCH = {"native._gpu": "triton"}
"""Comes with torch where there is a GPU, and is imported nowhere else."""

BESIDE = {("estimators", "rules"), ("rules", "neurons")}
"""The steps from axis to axis: an estimator may bend a rule, a rule runs a neuron."""

DOORS = {"", "__main__", "threats"}
"""What opens the package, by name and by command, and the threats by their classes: they lead everywhere, and load what
is asked for."""

REPORT = {"ground", "metrics", "store"}
"""What the report reads of the package: rows, never a model or an attack."""


@cache
def modules(source: Path) -> dict[str, ast.Module]:
    """Dotted name under the package ('' for itself) -> parsed file."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        names = path.relative_to(source).with_suffix("").parts
        found[".".join(names[:-1] if names[-1] == "__init__" else names)] = ast.parse(path.read_text("utf-8"))
    return found


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """All that stands in a file, however deep; not their expressions, which are most of it and can import nothing."""
    for field in ("body", "handlers", "cases", "orelse", "finalbody"):
        for node in getattr(tree, field, ()):
            yield node
            yield from statements(node)


def imported(tree: ast.Module, known: set[str]) -> Iterator[str]:
    """Dotted names of what a file imports, anywhere in it; the package's own without their first word."""
    for node in statements(tree):
        if isinstance(node, ast.Import):
            yield from (_own(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _own("." * node.level + (node.module or ""))
            for alias in node.names:
                # `from spikeproof import parts` names a module, `from spikeproof.types import Rule` something in one.
                child = f"{base}.{alias.name}".removeprefix(".") if base in known else base
                yield child if child in known else base


def _own(name: str) -> str:
    return name.removeprefix("spikeproof").removeprefix(".") if name.split(".")[0] == "spikeproof" else f"/{name}"


@cache
def graph(source: Path) -> dict[str, set[str]]:
    """Every file -> the files of the package it imports; what is foreign starts with '/'."""
    trees = modules(source)
    return {name: set(imported(tree, set(trees))) - {name} for name, tree in trees.items()}


def home(name: str) -> str:
    return name.split(".")[0]


def room(name: str, folders: set[str]) -> str:
    """The room of a file by the folder it lies in."""
    if home(name) in parts.FOLDERS:
        return "axes"
    return home(name) if home(name) in folders else "ground"


def faults(edges: dict[str, set[str]]) -> list[str]:
    """Every import that the order forbids, as 'file -> file: why'."""
    folders = {home(name) for name in edges if "." in name}
    found = []
    for name, targets in sorted(edges.items()):
        for target in sorted(t for t in targets if not t.startswith("/")):
            why = _fault(name, target, folders)
            found += [f"{name} -> {target}: {why}"] if why else []
        for target in sorted(t[1:] for t in targets if t.startswith("/")):
            if target.startswith("."):
                found.append(f"{name} -> {target}: relative imports hide who is meant")
            elif BESIDE_TORCH.get(name) == home(target):
                continue
            elif room(name, folders) in ("native", "ground", "layers") and (
                home(target) not in FOUNDATION | sys.stdlib_module_names
            ):
                found.append(f"{name} -> {target}: the foundation stands on {sorted(FOUNDATION)}")
    return found


def _fault(name: str, target: str, folders: set[str]) -> str:
    own, other = room(name, folders), room(target, folders)
    if own not in ROOMS or other not in ROOMS:
        return "no room of that name"
    if any(word.startswith("_") for word in target.split(".")) and home(name) != home(target):
        return "a private file of another folder"
    if name in DOORS or other == own != "axes":
        return ""
    if own == "axes" == other:
        return _among_axes(name, target)
    if ROOMS.index(other) > ROOMS.index(own):
        return f"{own} imports {other}, which lies above it"
    if own == "report" and other not in REPORT:
        return f"the report imports only {sorted(REPORT)}"
    return ""


def _among_axes(name: str, target: str) -> str:
    """Values of an axis know nothing of each other: what they share lies in private files of their folder."""
    if home(name) == home(target):
        private = target.rsplit(".", 1)[-1].startswith("_")
        return "" if private or target == home(target) else "only private files of its own folder"
    return "" if (home(name), home(target)) in BESIDE else "an axis imports another"


def test_every_file_has_a_room() -> None:
    edges = graph(SOURCE)
    folders = {home(name) for name in edges if "." in name}
    assert {room(name, folders) for name in edges} == set(ROOMS)


def test_every_import_is_allowed() -> None:
    assert faults(graph(SOURCE)) == []


def test_there_is_no_cycle() -> None:
    edges = graph(SOURCE)
    inside = {name: {t for t in targets if t in edges} for name, targets in edges.items() if name not in DOORS}
    order = list(graphlib.TopologicalSorter(inside).static_order())
    assert order.index("types") < order.index("tensors") < order.index("victims.victim")


def test_the_graph_sees_the_imports() -> None:
    edges = graph(SOURCE)
    assert "attacks._ascent" in edges["attacks.pgd"]
    assert "/torch" in edges["tensors"]


@pytest.mark.parametrize(
    ("file", "line", "fault"),
    [
        ("types.py", "import scipy.stats", "foundation"),
        ("types.py", "from spikeproof.attacks import fgsm", "lies above"),
        ("attacks/fgsm.py", "from spikeproof.attacks.pgd import PGD", "private"),
        ("attacks/fgsm.py", "from spikeproof.losses import margin", "an axis imports another"),
        ("attacks/fgsm.py", "from spikeproof.attacks import pgd", "private"),
        ("attacks/fgsm.py", "def f():\n    from spikeproof.evaluation import judge", "lies above"),
        ("evaluation/judge.py", "import spikeproof.commands.demo", "lies above"),
        ("evaluation/judge.py", "from spikeproof.attacks._ascent import climb", "private"),
        ("report/_page.py", "from spikeproof.study.run import run_cell", "lies above"),
        ("report/_page.py", "from spikeproof.victims.scene import Scene", "report"),
        ("evaluation/judge.py", "from .scene import Scene", "relative"),
        ("gaps/gap.py", "from spikeproof.types import Rule", "no room"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path: Path, file: str, line: str, fault: str) -> None:
    """The checker itself, on a package in which this is the one wrong line."""
    for name in ("__init__", "types", "tensors", "losses", "evaluation/judge", "victims/scene", "study/run",
                 "commands/demo", "attacks/__init__", "attacks/_ascent", "attacks/fgsm", "attacks/pgd",
                 "report/_page"):  # fmt: skip
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text("import torch\n")
    assert faults(graph(tmp_path)) == []
    graph.cache_clear()
    modules.cache_clear()
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(line)
    (found,) = faults(graph(tmp_path))
    assert fault in found
