"""What a page of many cells keeps in files beside it: tables of many rows, and runs of many folds.

The rule: a page of up to `WHOLE` cells is one file. Of more, a table of more than `ROWS` rows and a run of more than
`WHOLE` folds stand in files of the folder `FOLDER`, `ROWS_A_FILE` rows or `FOLDS_A_FILE` folds in each, and links stand
in their place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from spikeproof.report._blocks import Block, Box, Fold, Grid, Paragraph, Points, Section, drawings, text
from spikeproof.report._tables import Table
from spikeproof.report._text import MANY

__all__ = ["FOLDER", "MARK", "WHOLE", "Beside", "clear"]

FOLDER = "report-files"
WHOLE = MANY
ROWS, ROWS_A_FILE, FOLDS_A_FILE = 300, 2000, 100

MARK = "spikeproof report"
"""By what a file says that we wrote it."""

_SAID = (
    f"Of more than {WHOLE} cells, tables of more than {ROWS} rows and runs of more than {WHOLE} folds stand in the "
    f"folder {FOLDER} beside this page; move it along with the page."
)
_HREF = re.compile(r'href="#([^"]+)"')


@dataclass
class Beside:
    """`files`: the name of each -> its section; `anchors`: an id that was moved -> the name of its file."""

    files: dict[str, Section] = field(default_factory=dict)
    anchors: dict[str, str] = field(default_factory=dict)

    def part(self, anchor: str, section: Section) -> Section:
        """The section as it stands on the page; what is moved goes into `files`, named after its anchor."""
        named = section if section.title else replace(section, title=anchor.replace("-", " ").capitalize())
        return replace(section, blocks=list(self._blocks(anchor, named, section.blocks)))

    def linked(self, html: str, at: str = "") -> str:
        """The page, or the file `at`, with links that lead to where their targets now stand."""

        def where(found: re.Match[str]) -> str:
            file = self.anchors.get(found[1], "")
            if file == at:
                return found[0]
            way = (f"../{FOLDER}/{file}" if at else f"{FOLDER}/{file}") if file else "../report.html"
            return f'href="{way}#{found[1]}"'

        return _HREF.sub(where, html)

    def _blocks(self, anchor: str, section: Section, blocks: Sequence[Block]) -> Iterator[Block]:
        for folds, run in groupby(blocks, lambda block: isinstance(block, Fold) and not any(drawings(block.blocks))):
            some = list(run)
            if folds and len(some) > WHOLE:
                yield from self._folds(anchor, section, [block for block in some if isinstance(block, Fold)])
                continue
            for block in some:
                if isinstance(block, Fold):
                    inner = replace(section, title=block.summary)
                    yield replace(block, blocks=list(self._blocks(anchor, inner, block.blocks)))
                elif isinstance(block, Box):
                    yield replace(block, blocks=list(self._blocks(anchor, section, block.blocks)))
                elif isinstance(block, Grid) and len(block.table.rows) > ROWS:
                    yield self._rows(anchor, section, block)
                else:
                    yield block

    def _folds(self, anchor: str, section: Section, folds: Sequence[Fold]) -> list[Block]:
        links = []
        for start in range(0, len(folds), FOLDS_A_FILE):
            some = folds[start : start + FOLDS_A_FILE]
            name = self._file(anchor, section, section.title, some)
            self.anchors |= {fold.anchor: name for fold in some if fold.anchor}
            links.append(_link(name, start, len(some), some[0].summary, some[-1].summary))
        return [Paragraph(_SAID), Points(links)]

    def _rows(self, anchor: str, section: Section, grid: Grid) -> Fold:
        links = []
        rows = grid.table.rows
        for start in range(0, len(rows), ROWS_A_FILE):
            some = rows[start : start + ROWS_A_FILE]
            part = replace(grid, table=Table(grid.table.columns, some), unfolded=True)
            name = self._file(anchor, section, grid.name, [part])
            links.append(_link(name, start, len(some), some[0][0].main, some[-1][0].main))
        return Fold(grid.name, f"{len(rows)} rows, in {FOLDER}", [Paragraph(_SAID), Points(links)], "table")

    def _file(self, anchor: str, section: Section, title: str, blocks: Sequence[Block]) -> str:
        """The name under which the blocks stand, with a way back in front of them."""
        number = 1 + sum(name.startswith(f"{anchor}-") for name in self.files)
        back = Paragraph(text('Beside <a href="../report.html">the report</a>: {}', title))
        name = f"{anchor}-{number}.html"
        self.files[name] = Section("", [back, *blocks], section.style)
        return name


def _link(name: str, start: int, count: int, first: str, last: str) -> str:
    ends = text("{} to {}", first, last) if count > 1 else text("{}", first)
    return text('<a href="{}/{}">{} to {}</a>: {}', FOLDER, name, start + 1, start + count, ends)


def clear(folder: Path, kept: Mapping[str, object]) -> None:
    """Remove what an earlier report of ours wrote beside its page, but `kept`; files of others stay."""
    for path in folder.glob("*-*.html"):
        if path.name not in kept and path.is_file() and not path.is_symlink() and _ours(path):
            path.unlink()
    with suppress(OSError):  # it is not there, or holds what is not ours
        folder.rmdir()


def _ours(path: Path) -> bool:
    with open(path, "rb") as file:
        return f'<meta name="generator" content="{MARK}"/>'.encode() in file.read(2000)
