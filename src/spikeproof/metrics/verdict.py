"""What may be said of a robust accuracy, from the audits' rows alone, by a stated rule.

'not evaluated': an audit is red that says that the evaluation itself does not hold; there is no number then.
'overstated': any other audit is red; the worst case over all attacks is what may be published, as an upper bound.
'supported': every audit that was run is green; which were not run is said beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from spikeproof.errors import SpikeproofError
from spikeproof.rows import AuditRow, Row, of_kind

__all__ = ["NOT_EVALUATED", "OVERSTATED", "SUPPORTED", "Verdict", "Word", "verdict_of"]

Word = Literal["supported", "overstated", "not evaluated"]
SUPPORTED: Word = "supported"
OVERSTATED: Word = "overstated"
NOT_EVALUATED: Word = "not evaluated"

_COLOURS = ("red", "green", "not run")


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


def verdict_of(rows: Iterable[Row]) -> Verdict:
    """The verdict on one evaluation and budget: rows of other kinds than 'audit' are passed over.

    Where no audit was run: 'not evaluated'. Raises SpikeproofError for a colour that does not exist.
    """
    audits = of_kind(rows, AuditRow)
    for row in audits:
        if row["colour"] not in _COLOURS:
            raise SpikeproofError(f"a colour of audit {row['code']}", repr(row["colour"]), valid=_COLOURS)
    red, green, absent = (tuple(row["code"] for row in audits if row["colour"] == colour) for colour in _COLOURS)
    word = OVERSTATED if red else SUPPORTED
    if not (red or green) or any(row["breaks"] == NOT_EVALUATED for row in audits if row["colour"] == "red"):
        word = NOT_EVALUATED
    return Verdict(word, red, green, absent)
