"""write the rows of finished cells, small enough for a repository"""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from spikeproof.commands._given import finished
from spikeproof.store.packed import pack


def options(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="where cells were written")
    parser.add_argument("dest", type=Path, help="gets one .json.xz for each cell; `report DEST` makes the page")


def run(options: Namespace) -> int:
    written = pack(finished(options.folder), options.dest)
    size = sum(path.stat().st_size for path in written)
    print(f"{len(written)} cells in {options.dest}, {size / 1e6:.2f} MB")
    return 0
