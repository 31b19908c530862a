"""Docstrings as Markdown: they are prose with symbols, so whatever Markdown would take for its own is escaped."""

from __future__ import annotations

import html
import inspect
import re
import textwrap

from manual.errors import Undocumented

__all__ = ["docstring", "escaped", "markdown"]

_CODE = re.compile(r"(`[^`]*`)")


def docstring(thing: object, name: str) -> str:
    """What an object says of itself, cleaned of its indentation; Undocumented where it says nothing.

    A method may have it from a class that it overrides; a class may not, and what `dataclass` writes does not count.
    """
    text = inspect.cleandoc(vars(thing).get("__doc__") or "") if isinstance(thing, type) else inspect.getdoc(thing)
    if not text or (isinstance(thing, type) and text.startswith(f"{thing.__name__}(")):
        raise Undocumented(name)
    return text


def markdown(text: str) -> str:
    """A docstring, paragraph by paragraph: examples and indented blocks become code, the rest is escaped prose."""
    return "\n\n".join(map(_paragraph, re.split(r"\n\s*\n", text.strip("\n"))))


def _paragraph(text: str) -> str:
    if text.startswith(">>>"):
        return f"```pycon\n{text}\n```"
    if all(line.startswith("    ") for line in text.splitlines()):
        return f"```text\n{textwrap.dedent(text)}\n```"
    return escaped(text)


def escaped(text: str) -> str:
    """Prose in which only `code` has a meaning. A line that begins as a list or a heading would does not become one.

    >>> print(escaped("(B,*) -> (B,*), as `x*` says"))
    (B,\\*) -&gt; (B,\\*), as `x*` says
    """
    pieces = [piece if piece[:1] == "`" else _symbols(piece) for piece in _CODE.split(text)]
    return re.sub(r"^(\s*\d*)([-+.)])(?=\s)", r"\1\\\2", "".join(pieces), flags=re.MULTILINE)


def _symbols(text: str) -> str:
    return html.escape(re.sub(r"([\\*_\[\]{}#])", r"\\\1", text), quote=False)
