"""the transfer matrix: images made for each finished network of a folder, tried on all the others"""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from spikeproof.commands._given import finished
from spikeproof.commands._machine import add_machine, machine_of
from spikeproof.errors import UsageError


def options(parser: ArgumentParser) -> None:
    parser.add_argument("folders", type=Path, nargs="+", help="where cells were written, or single ones, cells/KEY")
    parser.add_argument("--eps", default="8/255", help="L-inf budget in units of [0,1]")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--trust", action="store_true", help="also run code of others that configurations name")
    add_machine(parser, out=False)


def run(options: Namespace) -> int:
    if options.images < 1:
        raise UsageError("images >= 1", options.images)
    cells = [cell for folder in options.folders for cell in finished(folder)]
    from spikeproof.study.transfer import of_cells

    matrix = of_cells(cells, options.eps, options.images, machine_of(options), trust=options.trust)
    width = max(map(len, matrix))
    print("share of images broken, of those that every network gets right; rows: made for, columns: tried on")
    print(f"{'':{width}s}  " + "  ".join(f"{name:>10s}" for name in matrix))
    for source, row in matrix.items():
        print(f"{source:{width}s}  " + "  ".join(f"{100 * share.share:8.1f} %" for share in row.values()))
    print(f"n = {next(iter(next(iter(matrix.values())).values())).total}, eps {options.eps}")
    return 0
