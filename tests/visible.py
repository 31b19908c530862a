"""What a reader sees of a page before a fold is opened: its words, without those inside of figures."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

__all__ = ["words"]

_SVG = "{http://www.w3.org/2000/svg}svg"
_NEVER = {"head", "style", "script", _SVG}


def words(page: str) -> list[str]:
    """The words of a page that is well-formed XML, in the order of reading; of a closed fold its summary alone."""
    return " ".join(_texts(ElementTree.fromstring(page))).split()


def _texts(element: ElementTree.Element) -> Iterator[str]:
    if element.tag in _NEVER:
        return
    closed = element.tag == "details" and element.get("open") is None
    yield element.text or ""
    for child in element:
        if not closed or child.tag == "summary":
            yield from _texts(child)
        yield child.tail or ""
