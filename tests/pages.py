"""Pages that cost less, for tests that look at no figure; the fixtures `no_pdf` and `undrawn` are these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import pytest

__all__ = ["without_drawing", "without_pdf"]


@contextmanager
def without_pdf() -> Iterator[None]:
    """Pages without the real PDF of each figure, whose fonts are a third of a page's time."""
    with pytest.MonkeyPatch.context() as patch:
        for place in ("report", "report._paper_figures"):
            patch.setattr(f"spikeproof.{place}.pdf", lambda figure: b"%PDF")
        yield


@contextmanager
def without_drawing() -> Iterator[None]:
    """Pages whose figures are made, and of which only the words are written: for tests of what a page says, or of what
    makes one in passing. To lay figures out and to draw them is most of a page's time."""
    with without_pdf(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("spikeproof.report.settle", lambda figure: None)
        patch.setattr("spikeproof.report.svg", _only_words)
        yield


def _only_words(figure: Any, name: str, label: str, titles: Mapping[str, str]) -> str:
    marks = "".join(f"<g aria-label={quoteattr(words)}><title>{escape(words)}</title></g>" for words in titles.values())
    return f'<svg xmlns="http://www.w3.org/2000/svg" role="group" aria-label={quoteattr(label)}>{marks}</svg>'
