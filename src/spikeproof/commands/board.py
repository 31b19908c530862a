"""make one page from the entries of a folder"""

from __future__ import annotations

import sys
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace


def options(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="with entries, *.json, as `spikeproof entry` writes them")
    parser.add_argument("--title", default="Robustness of spiking networks", help="of the page")


def run(options: Namespace) -> int:
    from spikeproof.board.page import write

    page, refused = write(options.folder, title=options.title)
    print(f"board: {page.resolve()}")
    for one in refused:
        print(f"not shown: {one.path.name}: {one.says}", file=sys.stderr)
    return 1 if refused else 0
