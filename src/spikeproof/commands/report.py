"""write report.html and the figures from the finished cells of a folder, packed or not"""

from __future__ import annotations

import gc
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from spikeproof.commands._given import shown


def options(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path)
    parser.add_argument("--title", default=None)
    parser.add_argument(
        "--figures", default=None, choices=["column", "page"],
        help="the two main figures for print too, as wide as a column (3.3 in) or a page (6.9 in): figures/column/*",
    )  # fmt: skip


def run(options: Namespace) -> int:
    collecting = gc.isenabled()
    gc.disable()  # rows are in no circle and go with their cell: it would find nothing, in a tenth of the time
    try:
        cells = shown(options.folder)
        from spikeproof import report

        title = options.title or options.folder.resolve().name
        page = report.write(cells, options.folder, title=title, figures=options.figures)
        print(f"report: {page.resolve()}")
    finally:
        if collecting:
            gc.enable()
    return 0
