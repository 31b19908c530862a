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
_SHAPES = (f"{{{_SVG}}}use", f"{{{_SVG}}}path")
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_DPI = 200
"""Of what is a picture in a figure, because it has too many marks to be shapes."""

_LONG = re.compile(r"(\.\d\d)\d+")
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
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)


def svg(figure: Figure, name: str, label: str, titles: Mapping[str, str]) -> str:
    """The figure as one <svg> element, without XML declaration.

    `label` is what a screen reader says; `titles` maps the gid of an artist to the words shown on hover and on
    focus. An artist without a mark in the figure is passed over. Many marks may be one artist, whose gid then is theirs
    with a space between each two: what it draws gets their gids in this order, and their words for readers of labels
    and for the page's script alone, because twice would be much.
    """
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata=_NO_METADATA, dpi=_DPI)
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(buffer.getvalue())
    for element in root.iter():
        if " " in (element.get("id") or ""):
            _one_by_one(element, titles)
    for element in root.iter():
        _shorten(element)
        if element.get("id") in titles and element.get("aria-label") is None:
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
    figure.savefig(buffer, format="pdf", dpi=_DPI, metadata=dict.fromkeys(("Creator", "Producer", "CreationDate")))
    return buffer.getvalue()


def _one_by_one(group: ElementTree.Element, titles: Mapping[str, str]) -> None:
    """Give what a group draws the gids that its own one lists."""
    gids = group.attrib.pop("id").split()
    hidden = {id(inner) for defs in group.iter(f"{{{_SVG}}}defs") for inner in defs.iter()}
    shapes = [one for one in group.iter() if one.tag in _SHAPES and id(one) not in hidden]
    for gid, shape in zip(gids, shapes, strict=True):
        shape.attrib.update({"id": gid, "tabindex": "0", "role": "img", "aria-label": titles[gid]})


def _shorten(element: ElementTree.Element) -> None:
    """Hundredths of a point are enough, and marks that look alike say so once."""
    for name in ("d", "x", "y"):
        if name in element.attrib and not element.get("transform"):
            element.set(name, _LONG.sub(r"\1", element.attrib[name]))
    uses = [one for one in element if one.tag == f"{{{_SVG}}}use"]
    styles = {one.get("style") for one in uses}
    if len(uses) > 1 and len(styles) == 1 and (style := styles.pop()) and "style" not in element.attrib:
        element.set("style", style)
        for one in uses:
            del one.attrib["style"]


def _prefix(element: ElementTree.Element, name: str) -> None:
    for attribute, value in list(element.attrib.items()):
        if attribute == "id":
            element.set(attribute, f"{name}-{value}")
        elif attribute.endswith("href") and value.startswith("#"):
            element.set(attribute, f"#{name}-{value[1:]}")
        elif "url(#" in value:
            element.set(attribute, _REFERENCE.sub(rf"url(#{name}-\1)", value))
