"""The page: sections set into one template, chapter by chapter, with style and script inside and nothing to fetch.

The page's own script sorts and filters tables and shows what a mark says. The page names its digest, so that a browser
runs no other, whatever a name or a configuration may hold.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from spikeproof.report._beside import MARK
from spikeproof.report._blocks import Section
from spikeproof.report._summary import Summary

__all__ = ["Chapter", "made_of", "render"]


class Chapter(NamedTuple):
    """A question of the reader's, and the sections that answer it, by their anchors."""

    anchor: str
    question: str
    sections: Mapping[str, Section]


def render(
    answers: Mapping[str, Section], chapters: Sequence[Chapter], drawn: Mapping[str, str], *, title: str, made: str
) -> str:
    """The page as HTML that is well-formed XML too.

    `answers` are the sections before the chapters, by their anchors; `drawn` are trusted <svg> elements by the names of
    their figures; `made` is the foot of the page. All text but `Markup` is escaped.
    """
    environment = Environment(
        loader=PackageLoader("spikeproof", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    folder = files("spikeproof.report")
    every = [*answers.values(), *(section for chapter in chapters for section in chapter.sections.values())]
    styles = dict.fromkeys(["page.css", *(section.style for section in every if section.style)])
    script = folder.joinpath("page.js").read_text(encoding="utf-8")
    return environment.get_template("page.html").render(
        title=title,
        generator=MARK,
        style=Markup("".join(folder.joinpath(name).read_text(encoding="utf-8") for name in styles)),
        script=Markup(script),
        script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
        answers=answers,
        chapters=chapters,
        drawn={name: Markup(svg) for name, svg in drawn.items()},
        made=made,
    )


def made_of(cells: Sequence[Summary]) -> str:
    """How many cells the page shows, and the versions of spikeproof that made them, each once."""
    versions = ", ".join(sorted({str(cell.provenance.get("spikeproof", "of unknown version")) for cell in cells}))
    count = f"{len(cells)} {'cell' if len(cells) == 1 else 'cells'}"
    return f"Made by spikeproof from the rows of {count}; cells made with spikeproof {versions}."
