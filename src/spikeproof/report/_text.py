"""How a number is written, once, for figures, tables and sentences alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from spikeproof.metrics.gradients import Mean
from spikeproof.metrics.robustness import Interval
from spikeproof.metrics.verdict import NOT_EVALUATED, UNSETTLED
from spikeproof.report._summary import Headline, Summary

__all__ = [
    "BOUND", "MANY", "MISSING", "between", "budget", "by_kind", "claim", "counted", "kind", "kinds",
    "listed", "mean", "number", "percent", "threat", "with_interval",
]  # fmt: skip

MISSING = "not measured"
BOUND = f"{UNSETTLED}: an upper bound"

MANY = 40
"""More cells than that have no names in a figure: colours tell the kinds of cells apart, and the pointer each mark.
More rows than that fold."""


def percent(share: float) -> str:
    """A share in [0,1] in percent; the number and its sign stay on one line.

    >>> percent(0.4567)
    '45.7\xa0%'
    """
    return f"{100 * share:.1f}\u00a0%"


def with_interval(found: Interval | None) -> str:
    """A share in percent with its interval.

    >>> with_interval(Interval(0.5, 0.25, 0.75, 2, 4))
    '50.0\xa0% [25.0, 75.0]'
    """
    return MISSING if found is None else f"{percent(found.share)} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def claim(cell: Summary) -> str:
    """The worst-case robust accuracy at the headline as far as it may be said."""
    if cell.withheld:
        return NOT_EVALUATED
    return f"at most {with_interval(cell.worst())} ({BOUND})" if cell.bound else with_interval(cell.worst())


def number(value: float) -> str:
    """Four significant digits, without an exponent where the number is near 1.

    >>> number(0.98765), number(0.0000123456), number(1234.5)
    ('0.9877', '1.235e-05', '1234')
    """
    return f"{value:.4g}"


def mean(found: Mean | None) -> str:
    """A mean, or why there is none."""
    if found is None:
        return MISSING
    return "undefined" if found.value is None else number(found.value)


def budget(headline: Headline, cells: Iterable[Summary]) -> str:
    """The eps of the headline as the cells write it, 8/255 for one."""
    found = (cell.headline or cell.panel for cell in cells)
    written = (str(entry["eps_text"]) for entry in found if entry is not None)
    return next(written, number(headline.eps))


def threat(headline: Headline, cells: Sequence[Summary]) -> str:
    """The headline in words: evaluation, norm and eps."""
    norms = sorted({str(cell.headline["norm"]) for cell in cells if cell.headline is not None})
    return ", ".join([headline.evaluation, *norms, f"eps {budget(headline, cells)}"])


def counted(number: int, noun: str) -> str:
    """So many of something.

    >>> counted(1, "seed"), counted(2, "seed")
    ('1 seed', '2 seeds')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(words: Sequence[str]) -> str:
    """Words as a list in a sentence.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def kinds(cells: Sequence[Summary]) -> tuple[str, list[str]]:
    """What tells the cells apart at a glance, the defence or, where all have the same, the pooling; and its values."""
    axis = "defence" if len({cell.defence for cell in cells}) > 1 else "pool"
    return axis, list(dict.fromkeys(kind(cell, axis) for cell in cells))


def kind(cell: Summary, axis: str) -> str:
    """A cell's value on that axis."""
    return (cell.defence if axis == "defence" else cell.setting("model", "pool")) or "none"


def by_kind(cells: Sequence[Summary]) -> str:
    """What the colours of lines tell where the cells are too many to have one each; else ''."""
    return " Colours tell kinds of cells, because there are so many." if len(cells) > MANY else ""


def between(counts: Sequence[int]) -> str:
    """How many there are of something, where that may differ.

    >>> between([3, 3]), between([5, 2]), between([])
    ('3', '2 to 5', 'not measured')
    """
    if not counts:
        return MISSING
    return str(counts[0]) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
