"""What the page says first of each network: its sentence, and its readings at the headline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from markupsafe import Markup

from spikeproof.metrics.verdict import NOT_EVALUATED, SUPPORTED, UNSETTLED
from spikeproof.report._blocks import text
from spikeproof.report._data import by_data
from spikeproof.report._summary import Summary
from spikeproof.report._tables import Entry, Table, bounded, numbers, share, word, words
from spikeproof.report._text import MISSING, listed, mean, percent, with_interval
from spikeproof.report._trust import TONES, readings

__all__ = ["counted", "ranked", "readings_table", "sentence"]


def sentence(cell: Summary) -> Markup:
    """How accurate and how robust one network is, how sure that is, and how sparse its gradient."""
    verdict = "" if cell.panel is None else text(
        '<strong class="{}">{}</strong>', TONES[cell.panel["verdict"]], cell.panel["verdict"]
    )  # fmt: skip
    return text(
        "<strong>{}</strong>: {} right when clean, {}{}; {}. {}",
        cell.label, _clean(cell), _standing(cell), _plain(cell), _gradient(cell), verdict,
    )  # fmt: skip


def _clean(cell: Summary) -> str:
    found = cell.clean("test")
    return MISSING if found is None else percent(found.share)


def _standing(cell: Summary) -> str:
    if cell.withheld:
        return NOT_EVALUATED
    if cell.worst() is None:
        return "not attacked at the headline"
    return f"{_most(cell)} when attacked"


def _most(cell: Summary) -> str:
    """The worst case, and whether it is an upper bound."""
    return f"{'at most ' if cell.bound else ''}{with_interval(cell.worst())}"


def _plain(cell: Summary) -> str:
    found = None if cell.plain is None else cell.attack(cell.plain)
    return "" if found is None or cell.withheld else f" (the plain attack left {percent(found.share)})"


def _gradient(cell: Summary) -> str:
    found = cell.measure("image", "gini")
    return "gradient not measured" if found is None else f"Gini of its input gradient {mean(found)}"


def ranked(cells: Sequence[Summary]) -> list[Summary]:
    """The cells of one data set after those of another, the highest worst case first; then what was not attacked, and
    last what was not evaluated."""

    def place(cell: Summary) -> tuple[bool, float]:
        return cell.withheld, 1.0 if (found := cell.worst()) is None else -found.share

    return [cell for group in by_data(cells) for cell in sorted(group, key=place)]


def counted(cells: Sequence[Summary]) -> str:
    """How many networks have which verdict, and which five have the highest worst case."""
    verdicts = Counter(cell.panel["verdict"] for cell in cells if cell.panel is not None)
    told = [f"{verdicts[word]} {word}" for word in (SUPPORTED, UNSETTLED, NOT_EVALUATED) if verdicts[word]]
    first = f"Of {len(cells)} networks {listed(told)}." if told else f"{len(cells)} networks, none of them audited."
    measured = [cell for cell in ranked(cells) if cell.worst() is not None]
    if not measured:
        return first
    if len(by_data(measured)) > 1:
        return f"{first} They do not all see the same data, so none of them is the most robust."
    best = listed([f"{cell.label} ({_most(cell)})" for cell in measured[:5]])
    return f"{first} The highest worst cases: {best}."


def readings_table(cells: Sequence[Summary]) -> Table | None:
    """Clean, plain attack, worst case and the three readings at the headline; None where no panel stands there."""
    rows = []
    for cell in cells:
        if cell.panel is None:
            continue
        plain = None if cell.plain is None or cell.withheld else cell.attack(cell.plain)
        worst = cell.worst()
        rows.append([
            word(cell.label),
            Entry(cell.panel["verdict"], numeric=False, tone=TONES[cell.panel["verdict"]]),
            share(cell.clean("test")),
            share(plain),
            Entry(NOT_EVALUATED) if worst is None else bounded(worst) if cell.bound else share(worst),
            *readings(cell.panel),
        ])  # fmt: skip
    columns = [
        *words("cell", "verdict"),
        *numbers("clean", "left by the plain attack", "worst case", "gap", "power", "slack"),
    ]
    return Table(columns, rows) if rows else None
