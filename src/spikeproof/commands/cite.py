"""what a paper says of finished cells: a line of a LaTeX and of a CSV table, and a paragraph of methods"""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from spikeproof.commands._given import shown

ONLY = ("table.tex", "table.csv", "methods.txt", "methods.tex")


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "folders", type=Path, nargs="+", help="cells, each cells/KEY, or folders of finished or packed ones"
    )
    parser.add_argument("--header", action="store_true", help="with the head of each table, and LaTeX's frame")
    parser.add_argument("--every", action="store_true", help="every evaluation and budget, not the headline alone")
    parser.add_argument("--only", default=None, choices=ONLY, help="print one of them")
    parser.add_argument("--out", type=Path, default=None, help="a folder to write all of them into, instead")


def run(options: Namespace) -> int:
    cells = [cell for folder in options.folders for cell in shown(folder)]
    from spikeproof.files import write_bytes
    from spikeproof.report.cite import cited

    found = cited(cells, header=options.header, every=options.every)
    if options.out is None:
        # LaTeX's own paragraph says the same again.
        wanted = [options.only] if options.only else [name for name in found if name != "methods.tex"]
        print("\n".join(found[name] for name in wanted), end="")
        return 0
    for name, text in found.items():
        if options.only in (None, name):
            write_bytes(options.out / name, text.encode())
            print(options.out / name)
    return 0
