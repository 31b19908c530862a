"""Who may import whom: every import line of the package against the table of layers."""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import spikeproof

SOURCE = Path(spikeproof.__file__).parent

LAYERS = {
    "": 0,  # the package itself: its version and nothing else
    **dict.fromkeys(("types", "tensors", "native", "pooling"), 1),
    **dict.fromkeys(
        ("neurons", "encoders", "losses", "threats", "metrics", "data", "defences", "attacks", "models", "victim",
         "frozen", "checkpoint", "corruptions"),
        2,
    ),
    **dict.fromkeys(("rules", "estimators", "scene", "memory", "judge", "paper", "measure", "train", "generalisation",
                    "energy", "theory"), 3),
    **dict.fromkeys(("parts", "lines", "rehearsal", "config", "store", "identity", "card", "examine", "study", "plan",
                     "executors", "loaded", "progress", "reproduction", "packed", "findings", "report", "audits",
                     "tiers", "panel", "controls", "transfer", "interop", "brief"), 4),
    "cli": 5,
}  # fmt: skip
"""Top-level module or folder -> layer; a file imports from its own layer or below."""

FOUNDATION = {"torch", "numpy"}
BESIDE_TORCH = {"native._gpu": "triton"}
"""Comes with torch where there is a GPU, and is imported nowhere else."""
"""What layer 1 may use besides the standard library."""

BESIDE = {("estimators", "rules")}
"""The one step within a layer that a folder may take: an estimator may bend a rule."""

REPORT = {"metrics", "store", "types"}
"""What the report reads of the package: rows, never a model or an attack."""


def modules(source: Path) -> dict[str, ast.Module]:
    """Dotted name under the package ('' for itself) -> parsed file."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text("utf-8"))
    return found


def imported(tree: ast.Module, known: set[str]) -> Iterator[str]:
    """Dotted names of what a file imports, anywhere in it; the package's own without their first word."""
    for node in ast.walk(tree):
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


def graph(source: Path) -> dict[str, set[str]]:
    """Every file -> the files of the package it imports; what is foreign starts with '/'."""
    trees = modules(source)
    return {name: set(imported(tree, set(trees))) - {name} for name, tree in trees.items()}


def home(name: str) -> str:
    return name.split(".")[0]


def faults(edges: dict[str, set[str]]) -> list[str]:
    """Every import that the table forbids, as 'file -> file: why'."""
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
            elif LAYERS.get(home(name)) == 1 and home(target) not in FOUNDATION | sys.stdlib_module_names:
                found.append(f"{name} -> {target}: the foundation stands on {sorted(FOUNDATION)}")
    return found


def _fault(name: str, target: str, folders: set[str]) -> str:
    own, other = home(name), home(target)
    if own not in LAYERS or other not in LAYERS:
        return "not in the table of layers"
    if name == "types" and target == "tensors":
        return "types stand alone"
    if own == other:
        private = target.rsplit(".", 1)[-1].startswith("_")
        return "" if private or target == own else "only private files of its own folder"
    if LAYERS[other] > LAYERS[own]:
        return f"layer {LAYERS[own]} imports layer {LAYERS[other]}"
    if own == "report":
        return "" if other in REPORT else f"the report imports only {sorted(REPORT)}"
    if LAYERS[other] == LAYERS[own] and own in folders and (own, other) not in BESIDE:
        return "a plugin folder imports nothing else of its layer"
    return ""


def test_every_file_has_a_layer() -> None:
    assert {home(name) for name in modules(SOURCE)} == set(LAYERS)


def test_every_import_is_allowed() -> None:
    assert faults(graph(SOURCE)) == []


def test_there_is_no_cycle() -> None:
    edges = graph(SOURCE)
    order = list(graphlib.TopologicalSorter({n: {t for t in e if t in edges} for n, e in edges.items()}).static_order())
    assert order.index("types") < order.index("tensors") < order.index("cli")


def test_the_graph_sees_the_imports() -> None:
    edges = graph(SOURCE)
    assert {"parts", "config", "types"} <= edges["cli"]
    assert "attacks._ascent" in edges["attacks.pgd"]
    assert "/torch" in edges["tensors"]


@pytest.mark.parametrize(
    ("file", "line", "fault"),
    [
        ("types.py", "from spikeproof.tensors import graft", "stand alone"),
        ("types.py", "import scipy.stats", "foundation"),
        ("attacks/fgsm.py", "from spikeproof.attacks.pgd import PGD", "private"),
        ("attacks/fgsm.py", "from spikeproof.losses import margin", "plugin folder"),
        ("attacks/fgsm.py", "from spikeproof.attacks import pgd", "private"),
        ("attacks/fgsm.py", "def f():\n    from spikeproof import judge", "layer 2 imports layer 3"),
        ("judge.py", "import spikeproof.cli", "layer 3 imports layer 5"),
        ("report/_page.py", "from spikeproof.study import run_cell", "report"),
        ("report/_page.py", "from spikeproof.scene import Scene", "report"),
        ("measure.py", "from .scene import Scene", "relative"),
        ("gaps/gap.py", "from spikeproof.types import Rule", "table"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path: Path, file: str, line: str, fault: str) -> None:
    """The checker itself, on a package in which this is the one wrong line."""
    for name in ("__init__", "types", "tensors", "losses", "judge", "measure", "scene", "study", "cli",
                 "attacks/__init__", "attacks/fgsm", "attacks/pgd", "report/_page"):  # fmt: skip
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text("import torch\n")
    assert faults(graph(tmp_path)) == []
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(line)
    (found,) = faults(graph(tmp_path))
    assert fault in found
