"""Text of whoever wrote it, made harmless for a terminal, for LaTeX and for a spreadsheet."""

from __future__ import annotations

import unicodedata

__all__ = ["formula_free", "latex", "plain"]

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\char34{}", "`": r"\textasciigrave{}", "\u00a0": "~", "\u2264": r"$\leq$",
    "\u2265": r"$\geq$",
}  # fmt: skip
"""What LaTeX would take for more than itself, and the signs of the page that old encodings do not have."""

_STARTS = ("=", "+", "-", "@")
"""With these a field of a spreadsheet begins that is worked out, and may ask the network."""


def plain(text: str) -> str:
    """Without characters that a terminal or an editor obeys: control, direction, unassigned; on one line."""
    seen = (" " if letter.isspace() and letter != "\u00a0" else letter for letter in text)
    return "".join("\ufffd" if unicodedata.category(letter)[0] == "C" else letter for letter in seen)


def latex(text: str) -> str:
    """As LaTeX sets it, letter by letter.

    >>> latex("50 % of my_net")
    '50 \\\\% of my\\\\_net'
    """
    return "".join(_LATEX.get(letter, letter) for letter in plain(text))


def formula_free(text: str) -> str:
    """As a field of a table that a spreadsheet opens: text stays text.

    >>> formula_free("=1+1"), formula_free("45.7")
    ("'=1+1", '45.7')
    """
    kept = plain(text)
    return f"'{kept}" if kept.lstrip().startswith(_STARTS) else kept
