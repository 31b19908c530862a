"""A figure as bytes: SVG with hover titles and ids of its own for the page, and PDF for a paper; never a date.

Several figures stand in one page, so every id of a figure, and every reference to it, gets the figure's name in front.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.figure import Figure

from spikeproof.report._figures import STYLE

__all__ = ["drawing", "pdf", "settle", "svg"]

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


@contextmanager
def drawing() -> Iterator[None]:
    """The settings under which figures are made and saved; the user's own are back afterwards."""
    with mpl.rc_context(), warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; the tables hold it in full.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def settle(figure: Figure) -> None:
    """Lay the figure out for the last time: what is saved has the layout that labels were placed in, and costs one."""
    figure.draw_without_rendering()
    figure.set_layout_engine(None)


def svg(figure: Figure, name: str, label: str, titles: Mapping[str, str]) -> str:
    """The figure as one <svg> element, without XML declaration.

    `label` is what a screen reader says; `titles` maps the gid of an artist to the words shown on hover and on
    focus. An artist without a mark in the figure is passed over.
    """
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata=_NO_METADATA)
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(buffer.getvalue())
    for element in root.iter():
        if element.get("id") in titles:
            title = ElementTree.Element(f"{{{_SVG}}}title")
            title.text = titles[element.attrib["id"]]
            element.insert(0, title)
            element.set("tabindex", "0")
            element.set("role", "img")
            element.set("aria-label", title.text)
        _prefix(element, name)
    root.set("role", "group" if titles else "img")  # the parts of an image are hidden from a screen reader
    root.set("aria-label", label)
    return ElementTree.tostring(root, encoding="unicode")


def pdf(figure: Figure) -> bytes:
    """The figure as a PDF file, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="pdf", metadata=dict.fromkeys(("Creator", "Producer", "CreationDate")))
    return buffer.getvalue()


def _prefix(element: ElementTree.Element, name: str) -> None:
    for attribute, value in list(element.attrib.items()):
        if attribute == "id":
            element.set(attribute, f"{name}-{value}")
        elif attribute.endswith("href") and value.startswith("#"):
            element.set(attribute, f"#{name}-{value[1:]}")
        elif "url(#" in value:
            element.set(attribute, _REFERENCE.sub(rf"url(#{name}-\1)", value))
