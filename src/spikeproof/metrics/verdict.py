"""What may be said of a robust accuracy, from the audits' rows alone, by a stated rule.

'not evaluated': an audit is red that says that the evaluation itself does not hold; there is no number then.
'supported': power and slack were measured and are green. 'unsettled': any other. The worst case over all attacks is
what may be published then, as an upper bound: it was not shown that the attacks find what is there, or an attacker who
goes on would break more than a few images besides.

What the other audits find, red or not, explains the gap between the plain attack and the worst case, and is no alarm.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from spikeproof.errors import SpikeproofError
from spikeproof.rows import AuditRow, Row, of_kind

__all__ = ["NOT_EVALUATED", "POWER", "SLACK", "SUPPORTED", "UNSETTLED", "Verdict", "Word", "verdict_of"]

Word = Literal["supported", "unsettled", "not evaluated"]
SUPPORTED: Final = "supported"
UNSETTLED: Final = "unsettled"
NOT_EVALUATED: Final = "not evaluated"

POWER: Final = "D21"
SLACK: Final = "D22"
"""The audits that say how strong the attacks are, and how far the number may still fall."""

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
    word: Word = SUPPORTED if {POWER, SLACK} <= {*green} else UNSETTLED
    if any(row["breaks"] == UNSETTLED for row in audits if row["colour"] == "red"):
        word = UNSETTLED
    if not (red or green) or any(row["breaks"] == NOT_EVALUATED for row in audits if row["colour"] == "red"):
        word = NOT_EVALUATED
    return Verdict(word, red, green, absent)
