"""Finding parts by name: the folder is the registry.

`find("attacks", "pgd")` is the one public name of spikeproof/attacks/pgd.py; losses are a single file whose public
names are the parts. Wherever a name is expected, a dotted path 'my_package.my_module:MyAttack' does as well. A part in
a configuration is a mapping with 'name' and its options, checked against the part's own signature.
"""

from __future__ import annotations

import ast
import copy
import importlib
import inspect
import keyword
import os
import pkgutil
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentError, ArgumentParser

from spikeproof.errors import UsageError, within
from spikeproof.trust import Untrusted, imported

if TYPE_CHECKING:
    from spikeproof.types import Knob, Surface

__all__ = [
    "FOLDERS",
    "build",
    "check_name",
    "describe",
    "find",
    "home",
    "key_in",
    "knob",
    "module_name",
    "names",
    "refuse_none",
    "refused_alone",
    "resolve",
    "surface",
    "tunable",
]

FOLDERS = (
    "neurons", "rules", "encoders", "models", "losses", "threats", "estimators", "attacks", "defences", "audits",
    "data", "corruptions", "surfaces",
)  # fmt: skip

_HOMES = {"audits": "evaluation.audits"}
"""Folders of parts that lie in a room of the package; the others stand at its top."""

_GIVEN = {
    "models": ("in_channels", "classes", "neuron"), "threats": ("eps", "surface"), "estimators": ("rule",),
    "corruptions": ("severity",),
}  # fmt: skip
"""What spikeproof itself hands to a part, so that it is no option of a configuration."""


_NESTED = {"defences": ("base",)}
"""Options that are a part of the same folder themselves, or None."""


def home(folder: str) -> str:
    """Where the parts of a folder lie, as a dotted name under the package: a folder, or a single file."""
    return _HOMES.get(folder, folder)


def module_name(folder: str, name: str) -> str:
    """The dotted name under the package of the file that holds a part, which need not be there."""
    if _place(folder).submodule_search_locations is None:
        return home(folder)
    return f"{home(folder)}.{name}{'_' if keyword.iskeyword(name) else ''}"


def _place(folder: str) -> ModuleSpec:
    """Where the parts of a folder lie; nothing is imported, so that a wrong name is refused at once."""
    if folder not in FOLDERS:
        raise UsageError("a kind of part", repr(folder), valid=FOLDERS)
    found = find_spec(f"spikeproof.{home(folder)}")
    assert found is not None
    return found


@cache
def _public(file: str) -> list[str]:
    """The parts of a single file that holds several: its public functions of logits and labels alone; a targeted loss
    takes more."""
    body = ast.parse(Path(file).read_text(encoding="utf-8")).body
    public = next(ast.literal_eval(node.value) for node in body if isinstance(node, ast.Assign))  # __all__ comes first
    functions = [node for node in body if isinstance(node, ast.FunctionDef) and len(node.args.args) == 2]
    return sorted(node.name for node in functions if node.name in public)


def names(folder: str) -> list[str]:
    """The names of the parts in a folder, sorted."""
    place = _place(folder)
    if place.submodule_search_locations is None:
        return list(_public(str(place.origin)))
    return [name for folder in place.submodule_search_locations for name in _files(folder, os.stat(folder).st_mtime_ns)]


@cache
def _files(folder: str, changed: int) -> list[str]:
    """The names of the parts in a folder, as of its last change: configurations ask for them again and again."""
    files = pkgutil.iter_modules([folder])
    return sorted(file.name.rstrip("_") for file in files if not file.name.startswith("_"))


def check_name(folder: str, name: str) -> None:
    """Raises UsageError with the valid names where a folder has no such part."""
    if name not in names(folder):
        raise UsageError(f"a part of {folder}", repr(name), valid=names(folder), mend="or give package.module:Name")


def find(folder: str, name: str) -> Any:
    """The class or function behind a name or a dotted path; UsageError with the valid names where there is none."""
    if ":" in name:
        try:
            found = getattr(imported(name), name.partition(":")[2])
        except Untrusted:
            raise
        except Exception as error:  # whatever a user's module does when it is imported
            raise UsageError(f"an importable package.module:Name, {name!r}", error) from error
        if not callable(found):
            raise UsageError(f"a class or function at {name!r}", type(found).__name__)
        return found
    return _own(folder, name)


def _own(folder: str, name: str) -> Any:
    """The class or function behind a name; a dotted path is none."""
    check_name(folder, name)
    file = importlib.import_module(f"spikeproof.{module_name(folder, name)}")
    return getattr(file, name if _place(folder).submodule_search_locations is None else file.__all__[0])


@cache
def surface(name: str) -> Surface:
    """The surface that a threat names, made once; UsageError with the valid names where there is none."""
    found: Surface = find("surfaces", name)()
    return found


def _options(folder: str, target: Any) -> dict[str, inspect.Parameter]:
    given = _GIVEN.get(folder, ())
    return {n: p for n, p in inspect.signature(target).parameters.items() if n not in given}


def build(folder: str, spec: Mapping[str, Any], **given: Any) -> Any:
    """A part from {'name': ..., option: value}; `given` is handed over unchecked.

    Unknown options and values of the wrong type raise UsageError with the valid ones and their defaults. A loss is a
    function and is returned as it is.
    """
    return _made(folder, spec, *_checked(folder, spec), given)


def _made(
    folder: str, spec: Mapping[str, Any], target: Any, options: Mapping[str, Any], given: Mapping[str, Any]
) -> Any:
    """A part from all its options; what its class refuses is told of the option that was written."""
    nested = {k: build(folder, options[k]) for k in _nested(folder, options)}
    try:
        return target if folder == "losses" else target(**given, **{**options, **nested})
    except UsageError as error:
        error.path = error.path or refused_alone(target, {k: v for k, v in options.items() if k in spec}, given)
        raise


def refused_alone(
    target: Any, options: Mapping[str, Any], given: Mapping[str, Any] = MappingProxyType({})
) -> tuple[str, ...]:
    """The one option that a class refuses also beside the defaults of the others; () where none is, or several."""
    refused = []
    for option, value in options.items():
        with suppress(TypeError):  # another option has no default, or a text stands for a number
            try:
                target(**given, **{option: value})
            except UsageError:
                refused.append(option)
    return tuple(refused) if len(refused) == 1 else ()


def resolve(folder: str, spec: Mapping[str, Any], *, tried: bool = False) -> dict[str, Any]:
    """The same part with every default written out, as plain data; tried: built once, for what its class refuses."""
    target, options = _checked(folder, spec)
    if tried:
        _made(folder, spec, target, options, {})
    return {"name": spec["name"], **options, **{k: resolve(folder, options[k]) for k in _nested(folder, options)}}


def _nested(folder: str, options: Mapping[str, Any]) -> list[str]:
    """The options that are parts."""
    return [k for k in _NESTED.get(folder, ()) if options.get(k) is not None]


def _checked(folder: str, spec: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The class or function, and all its options with their values."""
    if not isinstance(spec, Mapping):
        raise UsageError(f"a part of {folder} as a mapping with a 'name'", repr(spec), valid=names(folder))
    options = {k: v for k, v in spec.items() if k != "name"}
    if "name" not in spec:
        raise UsageError(f"a part of {folder} with a 'name'", dict(spec), valid=names(folder))
    with within("name"):
        if not isinstance(spec["name"], str):
            raise UsageError(f"a part of {folder} by its name", repr(spec["name"]), valid=names(folder))
        target = find(folder, spec["name"])
    if folder == "losses":
        if options:
            raise UsageError(f"no options for the loss {spec['name']!r}", sorted(options))
        return target, {}
    known = _options(folder, target)
    unknown = [k for k in options if k not in known]
    if unknown:
        valid = [f"{n}={p.default!r}" for n, p in known.items() if p.kind is not p.VAR_KEYWORD] or ["none"]
        with within(unknown[0]):
            raise UsageError(f"an option of {folder} {spec['name']!r}", repr(unknown[0]), valid=valid)
    nested = {k: options.pop(k, known[k].default) for k in _NESTED.get(folder, ()) if k in known}
    plain = known.keys() - nested.keys()
    refuse_none(target, options)
    try:
        checked = {**_parsed(target, frozenset(plain), options), **nested} if plain else nested
    except (ArgumentError, TypeError, ValueError) as error:
        with within(*key_in(error)):
            raise UsageError(f"options of {folder} {spec['name']!r}", str(error).strip()) from error
    return target, {k: checked[k] for k in known if k in checked}


def refuse_none(target: Any, options: Mapping[str, Any]) -> None:
    """UsageError for a None that the type of an option does not have: jsonargparse takes it for any value."""
    for name, parameter in inspect.signature(target).parameters.items():
        outermost = re.sub(r"\[.*\]", "", str(parameter.annotation))
        if name in options and options[name] is None and not re.search("None|Any|Optional|_empty", outermost):
            mend = "" if parameter.default is parameter.empty else "leave it out for its default"
            with within(name):
                raise UsageError(f"{name} as {parameter.annotation}", "None", mend=mend)


@cache
def _parser(target: Any, options: frozenset[str]) -> ArgumentParser:
    """Checks these options against the part's signature; kept, because a study asks for the same few every time."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(target, skip={n for n in inspect.signature(target).parameters if n not in options})
    return parser


_PARSED: dict[tuple[Any, frozenset[str], str], dict[str, Any]] = {}
"""Options that were parsed, by their text: `_KEPT` at most."""

_KEPT = 1 << 12


def _parsed(target: Any, names: frozenset[str], options: dict[str, Any]) -> dict[str, Any]:
    """All options of these names with their values. What is plain data, before and after, is parsed once: that takes
    longer than most parts take to build, and a study builds the same few again and again."""
    known = _plain(options)
    key = (target, names, repr(options) if known else "")
    found = _PARSED.get(key) if known else None
    if found is None:
        found = dict(vars(_parser(target, names).parse_object(options)))
        if not (known and _plain(found)):
            return found
        if len(_PARSED) >= _KEPT:
            _PARSED.clear()
        _PARSED[key] = found
    return copy.deepcopy(found)  # a part may change a list that it is given


def _plain(said: Any) -> bool:
    """Whether these are numbers, texts, and lists of such, and no more: then their text says all of them."""
    if type(said) is dict:
        return _plain([*said.keys(), *said.values()])
    if type(said) in (list, tuple):
        return all(map(_plain, said))
    return said is None or type(said) in (bool, int, float, str)


def key_in(error: Exception) -> tuple[str | int, ...]:
    """The keys that jsonargparse's message names, () where it names none.

    >>> key_in(ValueError('Parser key "recipe.lr": not a float'))
    ('recipe', 'lr')
    """
    found = re.search(r'key "([^"]+)"', str(error), re.IGNORECASE)
    return tuple(int(word) if word.isdigit() else word for word in re.findall(r"[^.\[\]]+", found[1])) if found else ()


def describe(folder: str) -> list[tuple[str, str, str]]:
    """For each part of a folder: its name, its options with defaults, and the first line of its file with its knob."""
    lines = []
    for name in names(folder):
        target = find(folder, name)
        module = inspect.getmodule(target)
        text = target if _place(folder).submodule_search_locations is None else module
        options = [] if folder == "losses" else [str(p).split(": ")[0] + (
            "" if p.default is p.empty else f"={p.default!r}") for p in _options(folder, target).values()]  # fmt: skip
        line, turned = (inspect.getdoc(text) or "").splitlines()[0], knob(folder, name)
        if turned is not None:
            line += f" Knob: {turned.option}, {' '.join(map(str, turned.values))}."
        lines.append((name, ", ".join(options), line))
    return lines


def knob(folder: str, name: str) -> Knob | None:
    """The option that traces a part's trade-off, with the values worth a sweep; None for a part without one.

    Of spikeproof's own parts alone: a page is made of data, and what they name is not imported.
    """
    from spikeproof.types import Tunable

    part = _own(folder, name)
    return part.KNOB if isinstance(part, Tunable) else None


@cache
def tunable(folder: str, name: str) -> bool:
    """Whether a part of spikeproof's own, in a file of its own, has a knob: read in the text of its file, because to
    import it takes torch, and a page needs no more than this."""
    check_name(folder, name)
    found = find_spec(f"spikeproof.{module_name(folder, name)}")
    assert found is not None
    assert found.origin is not None
    body = ast.parse(Path(found.origin).read_text(encoding="utf-8")).body
    return any(_has_knob(node) for node in body if isinstance(node, ast.ClassDef) and not node.name.startswith("_"))


def _has_knob(part: ast.ClassDef) -> bool:
    said = (node.target for node in part.body if isinstance(node, ast.AnnAssign))
    return any(isinstance(target, ast.Name) and target.id == "KNOB" for target in said)
