"""The page: sections set one after the other into one template, with the style inside and nothing to fetch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from spikeproof.report._blocks import Section
from spikeproof.report._summary import Summary

__all__ = ["made_of", "render"]


def render(sections: Mapping[str, Section], drawn: Mapping[str, str], *, title: str, made: str) -> str:
    """The page as HTML that is well-formed XML too.

    `sections` by their anchors; `drawn` are trusted <svg> elements by the names of their figures; `made` is the foot of
    the page. All text but `Markup` is escaped.
    """
    environment = Environment(
        loader=PackageLoader("spikeproof", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    folder = files("spikeproof.report")
    styles = dict.fromkeys(["page.css", *(section.style for section in sections.values() if section.style)])
    return environment.get_template("page.html").render(
        title=title,
        style=Markup("".join(folder.joinpath(name).read_text(encoding="utf-8") for name in styles)),
        sections=sections,
        drawn={name: Markup(svg) for name, svg in drawn.items()},
        made=made,
    )


def made_of(cells: Sequence[Summary]) -> str:
    """How many cells the page shows, and the versions of spikeproof that made them, each once."""
    versions = ", ".join(sorted({str(cell.provenance.get("spikeproof", "of unknown version")) for cell in cells}))
    count = f"{len(cells)} {'cell' if len(cells) == 1 else 'cells'}"
    return f"Made by spikeproof from the rows of {count}; cells made with spikeproof {versions}."
