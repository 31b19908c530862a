"""The sources of the package: read once, each with its digest and what it imports.

What is edited during a long run is not what is running, so nothing is read a second time.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path

import spikeproof
from spikeproof.store._own_files import own_files

__all__ = ["Sources", "package"]


_BY_NAME = "threats/__init__.py"
"""Finds its folder's classes by their names, so that any may be behind an import of the folder itself."""


class Sources:
    """Every .py and .c file under a root, by its path in it, such as 'attacks/pgd.py'."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._imports: dict[str, frozenset[str]] = {}
        self._own: dict[str, bytes] = {}  # a user's
        self._called: dict[str, str] = {}  # file of a user's -> the whole name of its module
        self._digests: dict[str, bytes] = {}

    @cached_property
    def texts(self) -> dict[str, bytes]:
        """Path -> content. The package's own are read all at once; a user's module when it is first named."""
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in self._files_of_disk()}

    def _files_of_disk(self) -> list[Path]:
        return sorted((*self.root.rglob("*.py"), *self.root.rglob("*.c")))

    def of_module(self, name: str) -> str | None:
        """The file of a dotted name under the package ('attacks.pgd'); None where there is none."""
        path = name.replace(".", "/")
        return next((file for file in (f"{path}.py", f"{path}/__init__.py") if file in self.texts), None)

    def of_user(self, module: str) -> str | None:
        """The file of a module by its whole name, the user's or the package's; None where it has no source."""
        first, _, rest = module.partition(".")
        if first == spikeproof.__name__:
            return self.of_module(rest)
        try:
            found = inspect.getsourcefile(import_module(module))
        except TypeError:  # built in
            return None
        return None if found is None else self._read(found, module)

    def _read(self, file: str, module: str) -> str:
        """A file of a user's, read when it is first met."""
        if file not in self._own:
            self._own[file], self._called[file] = Path(file).read_bytes(), module
        return file

    def imports(self, file: str) -> frozenset[str]:
        """The package's files that a file imports, anywhere in it, and the `__init__` of the folders they lie in; of a
        user's also those of theirs (`own_files`)."""
        if file not in self._imports:
            text = self.texts[file] if file in self.texts else self._own[file]
            tree = ast.parse(text) if file.endswith(".py") else ast.Module([], [])
            found = {path for name in _imported(tree) if (path := self.of_module(name)) is not None}
            if file in self._own:
                found |= {self._read(*one) for one in own_files(tree, file, self._called[file])}
                if _BY_NAME in found:
                    found |= {path for path in self.texts if path.startswith(_BY_NAME.removesuffix("__init__.py"))}
            self._imports[file] = frozenset(found - {file})
        return self._imports[file]

    def reached(self, starts: Iterable[str], through: Callable[[str], bool]) -> set[str]:
        """The starts, and every file that `through` allows which they import, and so on."""
        found, left = set(starts), list(starts)
        while left:
            new = {path for path in self.imports(left.pop()) if through(path)} - found
            found |= new
            left += new
        return found

    def digest(self, files: Iterable[str]) -> str:
        """A short hash of the names and contents of files; of a user's, the content alone: it may lie anywhere."""
        total = hashlib.sha256()
        for file in sorted(files, key=self._place):
            if file not in self._digests:
                name, text = (file, self.texts[file]) if file in self.texts else (Path(file).name, self._own[file])
                self._digests[file] = name.encode() + hashlib.sha256(text).digest()
            total.update(self._digests[file])
        return total.hexdigest()[:16]

    def _place(self, file: str) -> tuple[bool, str]:
        """A user's files first, wherever they lie."""
        if file in self.texts:
            return True, file
        return False, f"{Path(file).name} {hashlib.sha256(self._own[file]).hexdigest()}"


def _imported(tree: ast.Module) -> Iterator[str]:
    """Dotted names, without the package's own, of all that an import line may mean: modules and their folders."""
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            first, *rest = name.split(".")
            if first == spikeproof.__name__:
                yield from (".".join(rest[:depth]) for depth in range(1, len(rest) + 1))


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """All of a file's that may run, at any depth. Expressions, which are most of a tree, hold none and are passed over,
    as is what only a checker of types reads."""
    for block in ("orelse",) if _of_types(node) else ("body", "orelse", "handlers", "finalbody", "cases"):
        for statement in getattr(node, block, ()):
            yield statement
            yield from _statements(statement)


def _of_types(node: ast.AST) -> bool:
    """Whether it is an `if TYPE_CHECKING:`, or `typing.TYPE_CHECKING`."""
    test = node.test if isinstance(node, ast.If) else None
    name = test.id if isinstance(test, ast.Name) else test.attr if isinstance(test, ast.Attribute) else ""
    return name == "TYPE_CHECKING"


@cache
def package() -> Sources:
    """The sources that are running."""
    return Sources(Path(spikeproof.__file__).parent)
