"""The reference, from the docstrings alone: the public names of some modules, and every part with its options."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any

from manual.docstrings import docstring, escaped, markdown
from spikeproof import parts

__all__ = ["API", "api_page", "parts_index", "parts_page"]

API = {
    "package": ("The package", ("spikeproof",)),
    "errors": ("Errors", ("spikeproof.errors",)),
    "networks": (
        "Networks of one's own",
        ("spikeproof.interop.check", "spikeproof.interop.load", "spikeproof.interop.nir_graph"),
    ),
    "evaluation": (
        "Evaluation",
        (
            "spikeproof.evaluation.panel", "spikeproof.evaluation.examination", "spikeproof.evaluation.audits",
            "spikeproof.metrics.verdict", "spikeproof.metrics.robustness", "spikeproof.metrics.slack",
        ),
    ),
    "measures": (
        "Measures",
        (
            "spikeproof.metrics.sparsity", "spikeproof.metrics.gradients", "spikeproof.metrics.association",
            "spikeproof.metrics.generalisation", "spikeproof.metrics.pareto", "spikeproof.metrics.energy",
            "spikeproof.measures.gradients", "spikeproof.measures.theory", "spikeproof.measures.energy",
        ),
    ),
    "promises": ("What parts promise each other", ("spikeproof.tensors", "spikeproof.parts")),
    "cells": ("Finished cells", ("spikeproof.study.finished", "spikeproof.report")),
}  # fmt: skip
"""Page -> its title and the modules whose public names it has."""


def api_page(title: str, modules: tuple[str, ...]) -> str:
    """The Markdown of a page; Undocumented where a module, a public name in it or a public method says nothing."""
    pieces = [f"# {title}"]
    for name in modules:
        module = import_module(name)
        pieces += [f"## {_code(name)}", markdown(docstring(module, name))]
        for public in _public(module):
            pieces += _object(getattr(module, public), public, name)
    return "\n\n".join(pieces) + "\n"


def _public(module: ModuleType) -> list[str]:
    """The classes and functions that a module defines and offers; the package's own names come from its rooms."""
    found = {name: getattr(module, name) for name in module.__all__}
    return [
        name for name, thing in found.items()
        if isinstance(thing, type | FunctionType) and module.__name__ in ("spikeproof", thing.__module__)
    ]  # fmt: skip


def _object(thing: Any, name: str, module: str) -> Iterator[str]:
    """A class with its methods, or a function."""
    yield f"### {_code(name)} {{ #{module}.{name} }}"
    if not isinstance(thing, type) or not issubclass(thing, BaseException):
        yield _signature(thing, name)
    yield markdown(docstring(thing, f"{module}.{name}"))
    for method, value in vars(thing).items() if isinstance(thing, type) else ():
        if not method.startswith("_") and isinstance(value, FunctionType | property | classmethod | staticmethod):
            inner = getattr(thing, method)
            kind = "property" if isinstance(value, property) else _line(inner, method)
            yield f"**{_code(f'{name}.{method}')}**: {_code(kind)}"
            yield markdown(docstring(inner, f"{module}.{name}.{method}"))


def _signature(thing: Any, name: str) -> str:
    """The call as Python, one argument a line where it is long."""
    line = _line(thing, name)
    if len(line) > 88:
        signature = inspect.signature(thing)
        rows = "".join(f"    {word},\n" for word in _words(signature))
        line = f"{name}(\n{rows}){_returned(signature)}"
    return f"```python\n{line}\n```"


def _line(thing: Any, name: str) -> str:
    signature = inspect.signature(thing)
    return f"{name}({', '.join(_words(signature))}){_returned(signature)}"


def _words(signature: inspect.Signature) -> Iterator[str]:
    """Arguments as they are written, with the star that parts those that are named."""
    starred = False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            starred = True
            yield "*"
        starred |= parameter.kind is parameter.VAR_POSITIONAL
        stars = "*" * (parameter.kind is parameter.VAR_POSITIONAL) + "**" * (parameter.kind is parameter.VAR_KEYWORD)
        told = "" if parameter.annotation is parameter.empty else f": {_type(parameter.annotation)}"
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        yield f"{stars}{parameter.name}{told}{default}"


def _returned(signature: inspect.Signature) -> str:
    """What comes back; of a class nothing is said."""
    returned = signature.return_annotation
    return "" if returned in (signature.empty, None, "None") else f" -> {_type(returned)}"


def _type(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _code(text: str) -> str:
    return f"`{text}`"


def parts_index() -> str:
    """The Markdown of a page with one line a part."""
    pieces = ["# Every part", "`spikeproof parts` prints the same: what a configuration can name, by kind."]
    for folder in parts.FOLDERS:
        rows = [
            f"| [{_code(name)}]({folder}.md#{name}) | {_in_cell(line)} |" for name, _, line in parts.describe(folder)
        ]
        pieces += [f"## {folder}", "\n".join(["| part | what it is |", "| --- | --- |", *rows])]
    return "\n\n".join(pieces) + "\n"


def _in_cell(line: str) -> str:
    return escaped(line).replace("|", "\\|")


def parts_page(folder: str) -> str:
    """The Markdown of a page with every part of a folder; Undocumented where one says nothing."""
    pieces = [f"# Parts: {folder}", f"What `{folder}` can be in a configuration, with the options and their defaults."]
    for name, arguments, line in parts.describe(folder):
        target = parts.find(folder, name)
        text = docstring(target, f"{target.__module__}.{target.__name__}")
        pieces += [f"## {_code(name)} {{ #{name} }}"]
        pieces += [] if text.startswith(line) else [escaped(line)]
        pieces += [markdown(text), _options(target, arguments), f"Source: `{target.__module__.replace('.', '/')}.py`."]
    return "\n\n".join(pieces) + "\n"


def _options(target: Any, arguments: str) -> str:
    """A table of the options that `parts.describe` names, with their types from the signature."""
    (call,) = ast.parse(f"def part({arguments}): ...").body
    assert isinstance(call, ast.FunctionDef)
    if not call.args.args:
        return "No options."
    known = inspect.signature(target).parameters
    rows = [f"| {_code(one.arg)} | {_cell(known[one.arg])} |" for one in call.args.args]
    return "\n".join(["| option | type | default |", "| --- | --- | --- |", *rows])


def _cell(parameter: inspect.Parameter) -> str:
    default = "must be given" if parameter.default is parameter.empty else _code(repr(parameter.default))
    return f"{_code(_type(parameter.annotation))} | {default}"
