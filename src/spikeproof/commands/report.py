"""write report.html and the figures from the finished cells of a folder, packed or not"""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from spikeproof.commands._given import finished
from spikeproof.store.packed import packed_cells


def options(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path)
    parser.add_argument("--title", default=None)


def run(options: Namespace) -> int:
    # A folder may hold packed cells, which are of another kind to read and of the same to show.
    cells = packed_cells(options.folder) or finished(options.folder)
    from spikeproof import report

    title = options.title or options.folder.resolve().name
    print(f"report: {report.write(cells, options.folder, title=title).resolve()}")
    return 0
