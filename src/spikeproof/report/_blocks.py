"""What a section of the page is made of: paragraphs, points, tables, figures, and what folds or frames them.

Text is escaped where it is set into the page, unless it is a `Markup`; a block's class names how the page sets it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from markupsafe import Markup
from matplotlib.figure import Figure

from spikeproof.report._tables import Table

__all__ = [
    "Block", "Box", "Columns", "Drawing", "Fold", "Grid", "Heading", "Listing", "Paragraph", "Points", "Section",
    "drawings", "missing", "text",
]  # fmt: skip


@dataclass(frozen=True)
class Paragraph:
    """`tone` is a class of the style sheet."""

    text: str
    tone: str = ""


@dataclass(frozen=True)
class Heading:
    """Inside a section; `level` is 1 more than that of the heading above it, 1 to 6 as in HTML."""

    text: str
    level: int = 4


@dataclass(frozen=True)
class Points:
    items: Sequence[str]


@dataclass(frozen=True)
class Listing:
    """Text as it stands, line by line."""

    text: str


@dataclass(frozen=True)
class Grid:
    """A table behind its name, with what must be known to read it above it; `unfolded` is one that all read."""

    name: str
    table: Table
    above: Sequence[Block] = ()
    unfolded: bool = False


@dataclass(frozen=True)
class Drawing:
    """A figure with how it is to be read, saved under `name`; where there is none, its place on the page says so.

    `label` is what a screen reader says, `titles` maps the gid of a mark to the words shown on hover and on focus;
    the caption is folded unless it is `told`.
    """

    name: str
    title: str
    caption: str
    label: str
    figure: Figure | None
    titles: Mapping[str, str] = field(default_factory=dict)
    told: bool = False


@dataclass(frozen=True)
class Fold:
    """Blocks behind a summary and its `note`; `anchor` is an id that links may lead to."""

    summary: str
    note: str
    blocks: Sequence[Block]
    tone: str = ""
    anchor: str = ""
    unfolded: bool = False


@dataclass(frozen=True)
class Box:
    """Blocks that must not be missed, in a frame."""

    tone: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Columns:
    """Blocks side by side."""

    columns: Sequence[Sequence[Block]]


Block: TypeAlias = Paragraph | Heading | Points | Listing | Grid | Drawing | Fold | Box | Columns


@dataclass(frozen=True)
class Section:
    """Blocks under one heading; without a title they stand free. `style` names a style sheet of the report's own."""

    title: str
    blocks: Sequence[Block]
    style: str = ""


_FOLDS = re.compile(r"[ \n]+")  # not the spaces that keep a number and its unit on one line


def text(words: str, *values: object, **named: object) -> Markup:
    """Words of the page with HTML inside, its line breaks folded; what is set into them is escaped.

    >>> text("<em>{}</em>", "a < b")
    Markup('<em>a &lt; b</em>')
    """
    return Markup(_FOLDS.sub(" ", words).strip()).format(*values, **named)


def missing(words: str = "not measured") -> Paragraph:
    """What stands where there is nothing."""
    return Paragraph(words, "missing")


def drawings(blocks: Sequence[Block]) -> Iterator[Drawing]:
    """Every figure among the blocks, however deep."""
    for block in blocks:
        if isinstance(block, Drawing):
            yield block
        elif isinstance(block, Fold | Box):
            yield from drawings(block.blocks)
        elif isinstance(block, Columns):
            yield from (one for column in block.columns for one in drawings(column))
