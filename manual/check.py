"""python -m manual.check FOLDER: a built site holds together and asks nothing of a network.

MkDocs' own strictness looks at Markdown; this looks at what came out, as a browser would: every link within the site
leads to a page and a place that exist, and nothing is loaded from outside. Links that a reader follows may lead there.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["faults"]

_LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src",
           "embed": "src", "object": "data", "input": "src", "image": "href", "use": "href"}  # fmt: skip
"""Elements that load something when the page is shown, and where they say what; <link> loads unless it is a word."""

_WORDS = {"canonical", "next", "prev", "alternate", "author", "license", "help"}
"""What a <link> may be that is said of the page and not loaded."""

_OF_STYLE = re.compile(r"""(?:url\(\s*|@import\s+)["']?([^"')\s;]+)""")


@dataclass
class Page(HTMLParser):
    """What one page loads, leads to, and can be led to."""

    loads: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    places: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        self._style = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Every element, with what it names."""
        said = {name: value or "" for name, value in attributes}
        self._style = tag == "style"
        self.places |= {said[name] for name in ("id", "name") if name in said}
        self.loads += _OF_STYLE.findall(said.get("style", ""))
        if tag in _LOADED:
            self.loads += [said[name] for name in (_LOADED[tag],) if name in said]
            self.loads += [each.split()[0] for each in said.get("srcset", "").split(",") if each.strip()]
        elif tag == "link" and not {*said.get("rel", "").split()} <= _WORDS:
            self.loads.append(said.get("href", ""))
        elif tag in ("a", "area"):
            self.links += [said["href"]] if "href" in said else []

    def handle_data(self, data: str) -> None:
        """Styles within a page load too."""
        if self._style:
            self.loads += _OF_STYLE.findall(data)


@cache
def _page(file: Path) -> Page:
    page = Page()
    page.feed(file.read_text(encoding="utf-8"))
    return page


def faults(site: Path) -> Iterator[str]:
    """One line for each thing that is wrong with the HTML and CSS of a folder."""
    for file in sorted(site.rglob("*.html")):
        name, page = file.relative_to(site).as_posix(), _page(file)
        for url in page.loads:
            yield from _loaded(url, file, name)
        for url in page.links:
            yield from _led(url, file, name)
    for file in sorted(site.rglob("*.css")):
        for url in _OF_STYLE.findall(file.read_text(encoding="utf-8")):
            yield from _loaded(url, file, file.relative_to(site).as_posix())


def _loaded(url: str, file: Path, name: str) -> Iterator[str]:
    parts = urlsplit(url)
    if parts.scheme == "data" or not (parts.path or parts.netloc):
        return
    if parts.scheme or parts.netloc or parts.path.startswith("/"):
        # A page of errors stands at any address, and so names its files from the root of the site.
        if file.name != "404.html" or parts.netloc:
            yield f"{name}: loads {url} from outside"
    elif not (file.parent / unquote(parts.path)).is_file():
        yield f"{name}: loads {url}, which is not there"


def _led(url: str, file: Path, name: str) -> Iterator[str]:
    parts = urlsplit(url)
    if parts.scheme or parts.netloc or file.name == "404.html":
        return
    target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
    target = target / "index.html" if target.is_dir() else target
    if not target.is_file():
        yield f"{name}: leads to {url}, which is not there"
    elif parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in _page(target).places:
        yield f"{name}: leads to {url}, a page without that place"


def main(arguments: Sequence[str]) -> int:
    """Print what is wrong; the exit code is 1 where anything is, or where there is no page at all."""
    site = Path(arguments[0])
    found = list(faults(site))
    pages = len(list(site.rglob("*.html")))
    print("\n".join(found) if found else f"{pages} pages hold together and load nothing from outside")
    return 1 if found or not pages else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
