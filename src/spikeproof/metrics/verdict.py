"""What may be said of a robust accuracy, from the audits' rows alone, by a stated rule.

'not evaluated': an audit is red that says that the evaluation itself does not hold; there is no number then.
'overstated': any other audit is red; the worst case over all attacks is what may be published, as an upper bound.
'supported': every audit that was run is green; which were not run is said beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

__all__ = ["Verdict", "verdict_of"]

Word = Literal["supported", "overstated", "not evaluated"]


class Verdict(NamedTuple):
    """The word, and the codes of the audits that were red, that were green, and that were not run."""

    word: Word
    red: tuple[str, ...]
    green: tuple[str, ...]
    absent: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"red: {', '.join(self.red)}" if self.red else "no audit is red"]
        parts += [f"not run: {', '.join(self.absent)}"] if self.absent else []
        return f"{self.word} ({'; '.join(parts)})"


def verdict_of(rows: Iterable[Mapping[str, Any]]) -> Verdict:
    """The verdict on one evaluation and budget: rows of other kinds than 'audit' are passed over.

    Without any audit: 'not evaluated'.
    """
    audits = [row for row in rows if row["kind"] == "audit"]
    colours = ("red", "green", "not run")
    by_colour = {c: tuple(row["code"] for row in audits if row["colour"] == c) for c in colours}
    red = [row for row in audits if row["colour"] == "red"]
    word: Word = "overstated" if red else "supported"
    if not by_colour["green"] or any(row["breaks"] == "not evaluated" for row in red):
        word = "not evaluated"
    return Verdict(word, by_colour["red"], by_colour["green"], by_colour["not run"])
