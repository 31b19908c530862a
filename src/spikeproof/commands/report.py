"""write report.html and the figures from the finished cells of a folder, packed or not"""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from spikeproof.commands._given import shown


def options(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path)
    parser.add_argument("--title", default=None)


def run(options: Namespace) -> int:
    cells = shown(options.folder)
    from spikeproof import report

    title = options.title or options.folder.resolve().name
    print(f"report: {report.write(cells, options.folder, title=title).resolve()}")
    return 0
