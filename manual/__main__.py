"""python -m manual FOLDER: the pages of the site as Markdown, those of docs/ and the reference, for MkDocs to build."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from manual.errors import Undocumented
from manual.reference import API, api_page, parts_index, parts_page
from spikeproof.parts import FOLDERS

ROOT = Path(__file__).parents[1]
BESIDE = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
"""Documents at the top of the repository that are pages too; in a browser their links to docs/ lie beside them."""


def write(folder: Path) -> None:
    """Every page into an empty folder; Undocumented where a public object has no docstring."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder)
    shutil.copytree(ROOT / "manual" / "assets", folder / "assets")
    for name in BESIDE:
        text = (ROOT / name).read_text(encoding="utf-8")
        (folder / name.lower()).write_text(beside(text), encoding="utf-8")
    reference = folder / "reference"
    reference.mkdir()
    for page, (title, modules) in API.items():
        (reference / f"{page}.md").write_text(api_page(title, modules), encoding="utf-8")
    (reference / "parts").mkdir()
    (reference / "parts" / "index.md").write_text(parts_index(), encoding="utf-8")
    for kind in FOLDERS:
        (reference / "parts" / f"{kind}.md").write_text(parts_page(kind), encoding="utf-8")


def beside(text: str) -> str:
    """Links of a document at the top, as they are where it lies beside those of docs/.

    >>> beside("[a](docs/adding.md#b) and [s](SECURITY.md)")
    '[a](adding.md#b) and [s](security.md)'
    """
    for name in BESIDE:
        text = text.replace(f"]({name}", f"]({name.lower()}")
    return re.sub(r"\]\(docs/", "](", text)


def main(arguments: Sequence[str]) -> int:
    try:
        write(Path(arguments[0]))
    except Undocumented as error:
        print(f"manual: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
