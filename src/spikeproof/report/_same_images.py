"""Two networks on the same images: which of them stands where the other falls, by McNemar's test."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from spikeproof.metrics.multiple import holm
from spikeproof.metrics.paired import Discordant, mcnemar
from spikeproof.metrics.verdict import UNSETTLED
from spikeproof.report._data import data_key
from spikeproof.report._design import by_image, design
from spikeproof.report._pairs import both_pools
from spikeproof.report._summary import Summary
from spikeproof.report._tables import Entry, Table, numbers, word, words
from spikeproof.report._text import listed

__all__ = ["FEW", "same_images_table"]

FEW = 6
"""Networks up to which each is compared with each; of more, those that differ in nothing but max or average pool."""

_SHOWN = {"robust": "worst case", "clean": "clean test"}


def same_images_table(cells: Sequence[Summary]) -> Table | None:
    """A row for each two networks and what they are compared in; None where no two share an image."""
    compared = [
        (one, other, says, count, found)
        for one, other in _pairs(cells)
        for kind, says in _SHOWN.items()
        if (count_found := _discordant(kind, one, other)) is not None
        for count, found in [count_found]
    ]
    if not compared:
        return None
    corrected = holm([found.p for *_, found in compared])
    columns = [
        *words("one network", "another", "right in"),
        *numbers("images", "only the one", "only the other", "p, corrected"),
    ]
    rows = [
        [
            word(one.label), word(other.label), _asked(says, one, other), Entry(str(count)), Entry(str(found.first)),
            Entry(str(found.second)), Entry(f"{p:.2g}", f"{found.p:.2g} alone"),
        ]
        for (one, other, says, count, found), p in zip(compared, corrected, strict=True)
    ]  # fmt: skip
    return Table(columns, rows)


def _asked(says: str, one: Summary, other: Summary) -> Entry:
    """What they are compared in, with what must be read beside a worst case that may fall yet."""
    open_ = [cell.label for cell in (one, other) if cell.bound] if says == _SHOWN["robust"] else []
    return Entry(says, numeric=False, caution=f"{UNSETTLED}: {listed(open_)} may fall yet" if open_ else "")


def _pairs(cells: Sequence[Summary]) -> list[tuple[Summary, Summary]]:
    """Networks that learnt something and were attacked alike, on the same samples as the same frames, two by two."""
    grid = design(cells)
    if len(grid.cells) <= FEW:
        places = list(combinations(sorted(grid.cells), 2))
    else:
        places = [((s, one), (s, other)) for one, other in both_pools(grid) for s in range(len(grid.seeds))]
    both = [(grid.cells[one], grid.cells[other]) for one, other in places if {one, other} <= grid.cells.keys()]
    return [(one, other) for one, other in both if data_key(one) == data_key(other)]


def _discordant(kind: str, one: Summary, other: Summary) -> tuple[int, Discordant] | None:
    """How many images both were asked, and those that only one of them gets right."""
    first, second = map(by_image(kind), (one, other))
    if not (shared := first.keys() & second.keys()):
        return None
    apart = [first[image] - second[image] for image in shared]
    return len(shared), mcnemar(sum(d > 0 for d in apart), sum(d < 0 for d in apart))
