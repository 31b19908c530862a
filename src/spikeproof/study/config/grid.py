"""A study: a grid of cells over one base, and the line of its file that is wrong."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spikeproof.errors import UsageError, within
from spikeproof.limits import CELLS, check_different, check_name
from spikeproof.study.config.parse import cell_from, check_keys, typed
from spikeproof.study.config.schema import CellConfig
from spikeproof.study.config.yaml_lines import Keys, Lines, line_of, read_yaml

__all__ = ["Study", "load_study", "overlaid"]


def overlaid(tree: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted overrides laid over a tree, which stays as it is. Another 'name' of a part drops the options of the part
    it replaces."""
    result = dict(tree)
    # Names first: an option beside its part's new name belongs to the new part, in whatever order they are written.
    for path, value in sorted(overrides.items(), key=lambda item: not item[0].endswith(".name")):
        node = result
        *above, last = path.split(".")
        for step in above:
            below = node.get(step, {})
            if not isinstance(below, dict):
                with within(*path.split(".")):
                    raise UsageError(f"a mapping at {step!r} of {path!r}", repr(below))
            node[step] = node = dict(below)  # only what lies on the way is copied
        if above and last == "name" and node.get("name") not in (None, value):
            node.clear()
        node[last] = value
    return result


@dataclass(frozen=True)
class Study:
    """A grid of cells: `base`, and for each axis its named values, each a mapping of dotted overrides.

    seeds: every combination once for each; none given, the base's own seed.
    """

    title: str
    base: dict[str, Any]
    axes: dict[str, dict[str, dict[str, Any] | None]] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_name("a title", self.title)
        check_different("seeds", self.seeds)
        for axis, values in self.axes.items():
            if not values:
                raise UsageError(f"one value or more on axis {axis!r}", values, mend="name one, or delete the axis")
            if foreign := [path for paths in values.values() for path in paths or {} if not isinstance(path, str)]:
                raise UsageError(f"keys of a cell's configuration on axis {axis!r}", repr(foreign[0]))
        count = math.prod(map(len, self.axes.values())) * max(1, len(self.seeds))
        if count > CELLS:
            raise UsageError(f"a study of at most {CELLS} cells", count, mend="split it into several")

    def cells(self) -> list[CellConfig]:
        """Every combination, named by its values and its seed. Raises UsageError that names the combination."""
        found = []
        for name, values, seed in self.combinations():
            try:
                tree: dict[str, Any] = self.base
                for axis, value in values:
                    tree = overlaid(tree, self.axes[axis][value] or {})
                found.append(cell_from({**tree, "name": name, **({} if seed is None else {"seed": seed})}))
            except UsageError as error:
                raise self.refused(name, error) from error
        return found

    def combinations(self) -> Iterator[tuple[str, list[tuple[str, str]], int | None]]:
        """The name of every cell, its value on each axis, and its seed where seeds are given."""
        seeds: list[int | None] = [*self.seeds] or [None]
        for values in itertools.product(*self.axes.values()):
            for seed in seeds:
                words = [*map(str, values), *([f"s{seed}"] if len(self.seeds) > 1 else [])]
                yield "-".join(words) or "cell", list(zip(self.axes, values, strict=True)), seed

    def refused(self, name: str, error: UsageError) -> UsageError:
        """The same error with the name of its cell."""
        return error.at(f"cell {name!r}")


@dataclass(frozen=True)
class _Written(Study):
    """A study that was read from a file, and knows the line of everything in it."""

    file: str = ""
    lines: Lines = field(default_factory=dict, repr=False)

    def refused(self, name: str, error: UsageError) -> UsageError:
        return super().refused(name, error).at(f"{self.file}:{self._line(name, error.path)}")

    def _line(self, name: str, path: Keys) -> int:
        """Where the file says what the cell of that name has at `path`: an axis' value lies over the base."""
        axes = next((values for cell, values, _ in self.combinations() if cell == name), [])
        for depth in range(len(path), 0, -1):
            wanted = path[:depth]
            for axis, value in reversed(axes):
                for dotted in reversed(list(self.axes[axis][value] or {})):
                    keys = tuple(dotted.split("."))
                    shared = min(len(keys), depth)
                    written = ("axes", axis, value, dotted, *wanted[len(keys) :])
                    if keys[:shared] == wanted[:shared] and written in self.lines:
                        return self.lines[written]
            if ("base", *wanted) in self.lines:
                return self.lines["base", *wanted]
        return line_of(self.lines, ("seeds",) if path == ("seed",) else ("base",))


def load_study(path: Path) -> Study:
    """A study from a YAML file. What is wrong in it, or in a cell of it, raises UsageError with file and line."""
    tree, lines = read_yaml(path, "a study")
    try:
        check_keys(Study, tree, f"a study in {path.name}")
        if isinstance(seeds := tree.get("seeds"), list) and len(seeds) > CELLS:
            raise UsageError(f"a study of at most {CELLS} cells", f"{len(seeds)} seeds")
        # Whole numbers are what they must be, and the parser would copy the list for each of them.
        known = {"seeds": seeds} if isinstance(seeds, list) and all(type(one) is int for one in seeds) else {}
        rest = {name: value for name, value in tree.items() if name not in known}
        return _Written(**{**vars(typed(Study, rest, f"a study in {path.name}")), **known}, file=str(path), lines=lines)
    except UsageError as error:
        raise error.at(f"{path}:{line_of(lines, error.path)}") from error
