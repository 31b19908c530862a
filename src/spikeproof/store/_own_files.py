"""Which modules of a user's own a file imports: those that are neither Python's nor installed, found and not run.

What is installed is known by its version; what lies in a folder of the user's is edited between two runs.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

__all__ = ["own_files"]

_INSTALLED = ("site-packages", "dist-packages")


def own_files(tree: ast.Module, file: str, module: str) -> Iterator[tuple[str, str]]:
    """(file, whole name) of every module of the user's own that a file imports, anywhere in it, and the `__init__` of
    the packages they lie in. module: the whole name of the file's own."""
    package = module if Path(file).name == "__init__.py" else module.rpartition(".")[0]
    for name in dict.fromkeys(_named(tree, package)):
        words = name.split(".")
        for depth in range(1, len(words) + 1):
            whole = ".".join(words[:depth])
            if (found := _file_of(whole)) is not None and _is_own(found):
                yield str(found), whole


def _named(tree: ast.Module, package: str) -> Iterator[str]:
    """Whole names of all that an import line may mean."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join(filter(None, [*above, node.module]))
            if base:
                yield from (f"{base}.{alias.name}" for alias in node.names)


def _file_of(name: str) -> Path | None:
    """The source of a module: of one that runs, its own; of another, where it would be looked for."""
    if (running := sys.modules.get(name)) is not None:
        known = str(getattr(running, "__file__", None))
        return Path(known) if known.endswith(".py") else None
    first, *rest = name.split(".")
    try:
        spec = find_spec(first)  # of one that has no package, so that nothing is run
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin is not None and spec.origin.endswith(".py") else None
    below = [Path(place, *rest) for place in spec.submodule_search_locations or ()]
    tried = (path for base in below for path in (base.with_suffix(".py"), base / "__init__.py"))
    return next((path for path in tried if path.is_file()), None)


def _is_own(file: Path) -> bool:
    whole = file.resolve()
    standard = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")}
    home = Path(__file__).resolve().parents[1]
    return not (
        any(word in whole.parts for word in _INSTALLED)
        or any(whole.is_relative_to(folder) for folder in (*standard, home))
    )
